"""The command against a real service: keys, feeds of every kind, and the proof of the books."""

import asyncio
import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from click.testing import CliRunner, Result
from tests.conftest import run as run_sql

from truestock import feed
from truestock.cli import main
from truestock.demo.child import Service, running_service
from truestock.embedded import Servers
from truestock.feed import FeedError, open_client, send

KEY = "ts_the-first-key-of-these-tests"
ITEMS = [{"sku": f"mug-{number}", "name": f"Mug {number}"} for number in range(40)]
LOCATIONS = [{"location": "oslo", "kind": "store"}, {"location": "rome", "kind": "store"}]

Command = Callable[..., subprocess.CompletedProcess[str]]
Feed = Callable[..., Result]


@pytest.fixture(scope="module")
def environment(
    servers: Servers, make_database: Callable[[], Iterator[str]]
) -> Iterator[dict[str, str]]:
    """The service's settings: a database of these tests' own."""
    with make_database() as database_url:
        yield {
            "TRUESTOCK_DATABASE_URL": database_url,
            "TRUESTOCK_REDIS_URL": urlsplit(servers.redis_url)._replace(query="db=8").geturl(),
            "TRUESTOCK_BOOTSTRAP_KEY": KEY,
        }


@pytest.fixture(scope="module")
def service(
    environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """`truestock serve`, with items and locations."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with running_service(tmp_path_factory.mktemp("service"), None) as service:
            with open_client(service.url, KEY) as client:
                send(client, "PUT", "/v1/items", json={"items": ITEMS})
                send(client, "PUT", "/v1/locations", json={"locations": LOCATIONS})
            yield service


@pytest.fixture
def truestock(environment: dict[str, str]) -> Command:
    """Runs the command as a shell would."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "truestock", *map(str, arguments)],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def feed_file(service: Service, tmp_path: Path) -> Feed:
    """Writes a file and feeds it to the service, in this process: it starts nothing."""

    def run(name: str, content: str | bytes, *options: str, **changed: str) -> Result:
        path = tmp_path / name
        raw = content.encode() if isinstance(content, str) else content
        packed = name.endswith(".gz") and isinstance(content, str)
        path.write_bytes(gzip.compress(raw) if packed else raw)
        settings = {"--url": service.url, "--key": KEY} | changed
        named = [part for setting in settings.items() for part in setting]
        return CliRunner().invoke(main, ["feed", str(path), *named, *options])

    return run


def ask(service: Service, path: str, key: str = KEY) -> httpx.Response:
    with open_client(service.url, key) as client:
        return client.get(path)


def on_hand(service: Service, sku: str, location: str = "oslo") -> int:
    levels = ask(service, f"/v1/stock/levels?sku={sku}&location={location}").json()["levels"]
    return levels[0]["on_hand"]


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def event(number: int, sku: str, kind: str = "receipt", **more: object) -> dict[str, object]:
    now = datetime.now(UTC).isoformat()
    common = {"event_id": f"{sku}-{number}", "type": kind, "sku": sku, "location": "oslo"}
    return common | {"quantity": 1, "occurred_at": now} | more


# Keys -----------------------------------------------------------------------


def test_a_key_is_printed_once_and_may_do_what_its_scopes_say(
    truestock: Command, service: Service
) -> None:
    bounds = ("--location", "oslo", "--expires-in-days", "30")
    made = truestock("key", "--name", "Tablet", "--scope", "availability:read", *bounds)
    key = made.stdout.strip()
    assert made.returncode == 0
    # The key alone, so that `KEY=$(truestock key …)` works.
    assert key.startswith("ts_")
    assert len(key.split()) == 1
    key_id = made.stderr.split(":")[0]
    assert ask(service, "/v1/items", key).status_code == 200
    assert ask(service, "/v1/sources", key).status_code == 403

    listed = truestock("key", "--list").stdout
    assert key_id in listed
    assert key not in listed

    assert truestock("key", "--revoke", key_id).returncode == 0
    deadline = time.monotonic() + 5
    while ask(service, "/v1/items", key).status_code != 401:
        assert time.monotonic() < deadline, "a revoked key still works"
        time.sleep(0.05)
    again = truestock("key", "--revoke", key_id)
    assert (again.returncode, again.stderr) == (2, f"Error: There is no key {key_id}.\n")


@pytest.mark.parametrize(
    "options", [(), ("--name", "X"), ("--list", "--name", "X"), ("--name", "X", "--scope", "all")]
)
def test_key_says_what_it_lacks(truestock: Command, options: tuple[str, ...]) -> None:
    refused = truestock("key", *options)
    assert (refused.returncode, refused.stdout) == (2, "")


# Feeds ----------------------------------------------------------------------


def test_reference_data_is_put_and_what_is_rejected_is_told(feed_file: Feed) -> None:
    taken = feed_file("items.json", json.dumps({"items": ITEMS}))
    assert (taken.exit_code, taken.stdout) == (0, "items.json: 40 items: 40 updated\n")
    bad = {"location": "nowhere", "kind": "moon"}
    partly = feed_file("places.json", json.dumps({"locations": [*LOCATIONS, bad]}))
    assert partly.exit_code == 1
    first, second = partly.stdout.splitlines()
    assert first == "places.json: 3 locations: 2 updated, 1 rejected"
    assert "validation_failed" in second


@pytest.mark.parametrize("name", ["stock.csv", "stock.csv.gz"])
def test_a_snapshot_is_followed_to_its_end(feed_file: Feed, service: Service, name: str) -> None:
    sku = "mug-1" if name == "stock.csv" else "mug-2"
    about = ("--source", "erp", "--as-of", "2026-01-31T06:00:00Z")
    content = f"sku,location,on_hand\n{sku},oslo,7\n{sku},rome,3\n"
    taken = feed_file(name, content, *about)
    assert (taken.exit_code, taken.stdout) == (0, f"{name}: 2 rows: 2 applied\n")
    assert on_hand(service, sku) == 7

    again = feed_file(name, content + "unheard-of,oslo,1\n", *about)
    assert again.exit_code == 1
    assert "1 rejected" in again.stdout
    assert "row 3,unknown_sku" in again.stdout
    assert f"All of them: GET {service.url}/v1/imports/" in again.stdout


def test_events_go_in_batches_and_a_second_time_change_nothing(
    feed_file: Feed, service: Service
) -> None:
    content = lines([event(number, "mug-3") for number in range(2_300)])
    first = feed_file("till.ndjson.gz", content, "--source", "tills")
    assert (first.exit_code, first.stdout) == (0, "till.ndjson.gz: 2,300 events: 2,300 applied\n")
    again = feed_file("till.ndjson.gz", content, "--source", "tills")
    assert again.stdout == "till.ndjson.gz: 2,300 events: 2,300 duplicate\n"
    assert on_hand(service, "mug-3") == 2_300


def test_rejected_events_are_named(feed_file: Feed) -> None:
    rows = [event(1, "mug-4"), event(1, "unheard-of"), event(2, "mug-4", quantity=-1)]
    partly = feed_file("till.ndjson", lines(rows), "--source", "tills")
    assert partly.exit_code == 1
    first, second, third = partly.stdout.splitlines()
    assert first == "till.ndjson: 3 events: 1 applied, 2 rejected"
    assert second.startswith("  event unheard-of-1: unknown_sku: ")
    assert third.startswith("  event mug-4-2: validation_failed: ")


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("till.ndjson", '{"a": 1}\n', (), "needs --source"),
        ("stock.csv", "sku\n", ("--source", "erp"), "needs --as-of"),
        ("stock.csv", "sku\n", ("--source", "erp", "--as-of", "2026-01-31 06:00"), "no offset"),
        ("stock.xlsx", "", (), "a file ends in .csv"),
        ("items.json", '{"things": []}', (), "a file lists items or locations"),
        ("items.json", "[]", (), "is not"),
        ("till.ndjson", '\n{"a": 1}\noops\n', ("--source", "tills"), "line 3 is not a JSON"),
    ],
)
def test_a_bad_file_is_told_in_a_sentence(
    feed_file: Feed, name: str, content: str, options: tuple[str, ...], said: str
) -> None:
    refused = feed_file(name, content, *options)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_file_cut_short_is_told(feed_file: Feed) -> None:
    cut = gzip.compress(lines([event(9, "mug-5")]).encode())[:-12]
    refused = feed_file("till.ndjson.gz", cut, "--source", "tills")
    assert refused.exit_code == 2
    assert "is not whole as gzip" in refused.stderr


def test_no_service_and_no_such_key_are_told(feed_file: Feed) -> None:
    content = '{"items": [{"sku": "mug-1"}]}'
    nobody = feed_file("items.json", content, **{"--url": "http://127.0.0.1:9"})
    assert nobody.exit_code == 2
    assert "start one with `truestock serve`" in nobody.stderr
    stranger = feed_file("items.json", content, **{"--key": "ts_unknown"})
    assert stranger.exit_code == 2
    assert "401 unauthenticated" in stranger.stderr
    assert "set TRUESTOCK_KEY" in stranger.stderr


# A busy service -------------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that would have been made."""
    made: list[float] = []
    monkeypatch.setattr(feed.time, "sleep", made.append)
    return made


def client_of(answers: list[httpx.Response | Exception], keys: list[str]) -> httpx.Client:
    """A client whose service gives these answers, and notes the Idempotency-Keys."""

    def answer(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return httpx.Client(base_url="http://shop", transport=httpx.MockTransport(answer))


def test_a_busy_service_is_asked_again_with_the_same_key(
    tmp_path: Path, pauses: list[float]
) -> None:
    path = tmp_path / "till.ndjson"
    path.write_text(lines([event(1, "mug-1")]))
    keys: list[str] = []
    done = httpx.Response(200, json={"results": [{"event_id": "mug-1-1", "status": "applied"}]})
    answers = [
        httpx.Response(503, headers={"Retry-After": "2"}, json={"code": "overloaded"}),
        httpx.ReadError("reset"),
        httpx.Response(409, json={"code": "idempotency_in_flight"}),
        httpx.Response(429, headers={"Retry-After": "3600"}, json={"code": "rate_limited"}),
        done,
    ]
    sent = feed.send_events(client_of(answers, keys), path, "tills", lambda *_: None)
    assert sent.counts == {"applied": 1}
    assert len(keys) == 5
    assert len(set(keys)) == 1
    # What the service asks for within bounds, else pauses that double.
    assert pauses == [2.0, 0.5, 1.0, feed.LONGEST_PAUSE]


def test_a_service_that_stays_busy_is_given_up(pauses: list[float]) -> None:
    answers = [httpx.Response(503, json={"code": "overloaded", "detail": "Too much."})] * 99
    with pytest.raises(FeedError, match=r"8 attempts\. 503 overloaded: Too much"):
        send(client_of(answers, []), "PUT", "/v1/items", headers={"Idempotency-Key": "k"})
    assert len(pauses) == feed.ATTEMPTS - 1


# The proof ------------------------------------------------------------------


def test_check_proves_the_books_and_names_what_drifts(
    truestock: Command, feed_file: Feed, environment: dict[str, str]
) -> None:
    feed_file("till.ndjson", lines([event(1, "mug-9")]), "--source", "tills")
    sound = truestock("check")
    assert sound.returncode == 0
    assert "The books agree" in sound.stdout

    broken = "UPDATE levels SET on_hand = on_hand {} 1 WHERE item_id = (SELECT item_id FROM items"
    broken += " WHERE sku = 'mug-9')"
    run_here(environment, broken.format("+"))
    drifted = truestock("check")
    assert drifted.returncode == 1
    assert "movements: mug-9 at oslo: on_hand should be 1, is 2" in drifted.stdout
    found = json.loads(truestock("check", "--json").stdout)
    assert {drift["kind"] for drift in found["drifts"]} == {"movements", "balance"}
    assert found["levels"] > 0
    assert found["seconds"] >= 0
    run_here(environment, broken.format("-"))


def run_here(environment: dict[str, str], statement: str) -> None:
    """Change the service's database behind its back."""
    asyncio.run(run_sql(environment["TRUESTOCK_DATABASE_URL"], statement))


def test_check_says_that_there_is_no_schema(
    empty_database_url: str, truestock: Command, environment: dict[str, str]
) -> None:
    before = environment["TRUESTOCK_DATABASE_URL"]
    environment["TRUESTOCK_DATABASE_URL"] = empty_database_url
    found = truestock("check")
    environment["TRUESTOCK_DATABASE_URL"] = before
    assert found.returncode == 2
    assert "run `truestock migrate`" in found.stderr
