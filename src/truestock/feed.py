"""Sends a file to a running service, as the system would that wrote it.

1. A .csv file is a snapshot, an .ndjson file events, a .json file reference data.
2. It goes in requests as large as the API takes, and none is in memory but the one under way.
3. What the service is too busy for, or a broken connection left open, is sent again: with the same
   Idempotency-Key, so that it is never done twice.
"""

import gzip
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import httpx
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from truestock.config import MAX_BULK_ENTRIES, MAX_EVENTS, MAX_IMPORT_LINE_BYTES

CONNECT_SECONDS, ANSWER_SECONDS = 5.0, 60.0
# A request is sent so often; the pauses are the service's Retry-After, within bounds, or these.
ATTEMPTS = 8
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0
UPLOAD_PIECE = 256 * 1024
# Seconds between two looks at an import, and without any progress before we stop looking.
FIRST_LOOK, LONGEST_LOOK = 0.05, 0.5
STALLED = 300.0
MAX_EXAMPLES = 5

# Told how far a file is: what is done with it, how much of that, of how much.
Report = Callable[[str, int, int], None]
Row = dict[str, Any]


class FeedError(Exception):
    """The file could not be sent; the message says why and what to do."""


class Sent(msgspec.Struct):
    """How the service took a file.

    noun, total: what it has, and how many of them. counts: by outcome. notes: what to know beside,
    in lines. complete: False while something in it waits for a decision.
    """

    noun: str
    total: int
    counts: dict[str, int]
    notes: list[str] = []
    complete: bool = True

    @property
    def taken(self) -> bool:
        """Whether nothing of it was rejected or waits; what was known or is outdated is taken."""
        return self.complete and not self.counts.get("rejected")


class Snapshot(msgspec.Struct, frozen=True):
    """What a snapshot is sent with; as_of: when the shelves were as the file says."""

    source: str
    as_of: datetime
    scope: str = "partial"


def open_client(url: str, key: str) -> httpx.Client:
    """A client of the service at `url`, with an API key."""
    if not key.isascii():
        raise FeedError("The key has characters that no key has: copy it again.")
    return httpx.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=httpx.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS),
        # No proxy lies between us and this machine, whatever the environment says of the others.
        mounts={"all://127.0.0.1": None, "all://localhost": None},
    )


def check_reachable(client: httpx.Client) -> None:
    """Raise FeedError unless a service answers."""
    try:
        client.get("/health/live")
    except (httpx.TransportError, httpx.InvalidURL) as error:
        what = f"No service answers at {client.base_url} ({error})"
        raise FeedError(f"{what}: start one with `truestock serve`, or name its --url.") from error


# Reference data -------------------------------------------------------------


def send_reference(client: httpx.Client, path: Path, report: Report) -> Sent:
    """PUT the items or the locations that a .json file lists."""
    noun, entries = read_reference(path)
    counts: Counter[str] = Counter()
    notes: list[str] = []
    for start in range(0, len(entries), MAX_BULK_ENTRIES):
        chunk = {noun: entries[start : start + MAX_BULK_ENTRIES]}
        results = send(client, "PUT", f"/v1/{noun}", json=chunk)["results"]
        count_results(results, noun.removesuffix("s"), counts, notes)
        report("sent", start + len(results), len(entries))
    return Sent(noun, len(entries), counts, notes)


def read_reference(path: Path) -> tuple[str, list[Any]]:
    """What a file of reference data lists, and its entries."""
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, list[Any]])
        [(noun, entries)] = found.items()
    except ValueError as error:
        raise FeedError(
            f'{path} is not {{"items": […]}} or {{"locations": […]}}: {error}'
        ) from error
    if noun not in ("items", "locations"):
        raise FeedError(f"{path} lists {noun!r}; a file lists items or locations.")
    return noun, entries


# Events ---------------------------------------------------------------------


def send_events(client: httpx.Client, path: Path, source: str, report: Report) -> Sent:
    """POST the events of an .ndjson file in batches, in their order."""
    counts: Counter[str] = Counter()
    notes: list[str] = []
    total, size = 0, path.stat().st_size
    with path.open("rb") as raw, unpacked(path, raw) as file:
        for batch in batches(path, file):
            body = {"source": source, "events": batch}
            once = {"Idempotency-Key": str(uuid4())}
            answer = send(client, "POST", "/v1/stock/events", json=body, headers=once)
            count_results(answer["results"], "event", counts, notes)
            total += len(batch)
            report("sent", raw.tell(), size)
    return Sent("events", total, counts, notes)


@contextmanager
def unpacked(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """A file's content, whether it is packed or not."""
    if path.suffix != ".gz":
        yield raw
        return
    try:
        with gzip.open(raw) as file:
            yield file  # type: ignore[misc]  # a GzipFile is all of IO[bytes] that we read
    except (gzip.BadGzipFile, EOFError) as error:
        raise FeedError(f"{path} is not whole as gzip: {error}") from error


def batches(path: Path, file: IO[bytes]) -> Iterator[list[Row]]:
    """The objects of a file's lines, as many at once as a request takes."""
    lines = enumerate(iter(partial(file.readline, MAX_IMPORT_LINE_BYTES), b""), start=1)
    rows = (read_line(path, number, line) for number, line in lines if line.strip())
    while batch := list(islice(rows, MAX_EVENTS)):
        yield batch


def read_line(path: Path, number: int, line: bytes) -> Row:
    """A line's object; the batches before it have been sent by now."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        again = "Mend it and send the whole file again: events that are known do not count twice."
        raise FeedError(f"{path}, line {number} is not a JSON object: {error}. {again}") from error


def count_results(results: list[Row], noun: str, counts: Counter[str], notes: list[str]) -> None:
    """Count what became of each entry, and keep the first rejections' reasons."""
    counts.update(result["status"] for result in results)
    for result in results:
        if result["status"] == "rejected" and len(notes) < MAX_EXAMPLES:
            name = result.get("event_id") or result.get("sku") or result.get("location") or "?"
            notes.append(f"{noun} {name}: {result.get('code')}: {result.get('detail')}")


# Snapshots ------------------------------------------------------------------


class Upload(msgspec.Struct, frozen=True):
    """A file's bytes in pieces, from the start each time that it is sent."""

    path: Path
    report: Report

    def __iter__(self) -> Iterator[bytes]:
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            while piece := file.read(UPLOAD_PIECE):
                yield piece
                self.report("sent", file.tell(), size)


def send_snapshot(client: httpx.Client, path: Path, about: Snapshot, report: Report) -> Sent:
    """POST a .csv file as it is, and wait until its import has ended."""
    headers = {
        "Content-Type": "text/csv",
        "Content-Length": str(path.stat().st_size),
        "Idempotency-Key": str(uuid4()),
    }
    if path.suffix == ".gz":
        headers["Content-Encoding"] = "gzip"
    query = {"source": about.source, "as_of": about.as_of.isoformat(), "scope": about.scope}
    started = send(
        client,
        "POST",
        "/v1/stock/snapshots",
        params=query,
        headers=headers,
        content=Upload(path, report),
    )
    state = wait_for_import(client, started["status_url"], report)
    return import_outcome(client, str(started["import_id"]), state)


def wait_for_import(client: httpx.Client, status_url: str, report: Report) -> Row:
    """Look at an import until it has ended, or nothing has moved for STALLED seconds."""
    pause, seen, moved_at = FIRST_LOOK, -1.0, time.monotonic()
    while True:
        state = send(client, "GET", status_url)
        if state["status"] not in ("queued", "running"):
            return state
        progress = float(state["progress"])
        if progress != seen:
            seen, moved_at = progress, time.monotonic()
            report("applied", int(progress * state["rows_read"]), max(state["rows_read"], 1))
        if time.monotonic() - moved_at > STALLED:
            raise FeedError(f"The import has not moved for {STALLED:.0f} s; see {status_url}.")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_LOOK)


def import_outcome(client: httpx.Client, import_id: str, state: Row) -> Sent:
    """How an import ended, in the words of the other feeds."""
    where = client.base_url.join(f"/v1/imports/{import_id}")
    if state["status"] == "failed":
        raise FeedError(f"The import failed: {state.get('failure') or where}")
    outcomes = ("applied", "unchanged", "superseded", "zeroed", "rejected")
    counts = {name: state.get(f"rows_{name}", 0) for name in outcomes}
    notes = []
    if counts["rejected"]:
        notes = [*first_errors(client, import_id), f"All of them: GET {where}/errors"]
    if state["status"] == "quarantined":
        notes.append(
            "Quarantined: it would set over a tenth of a location's stocked levels to zero. "
            f"Nothing was applied; if that is right: POST {where}/release"
        )
    return Sent("rows", state["rows_read"], counts, notes, state["status"] == "completed")


def first_errors(client: httpx.Client, import_id: str) -> list[str]:
    """The first rejected rows, as the service lists them."""
    with client.stream("GET", f"/v1/imports/{import_id}/errors") as response:
        return [f"row {line}" for line in islice(response.iter_lines(), 1, MAX_EXAMPLES + 1)]


# Requests -------------------------------------------------------------------


def send(client: httpx.Client, method: str, url: str, **request: Any) -> Row:
    """One request's answer, sent again while the service is busy. Raises FeedError."""
    pause = FIRST_PAUSE
    for attempt in range(1, ATTEMPTS + 1):
        try:
            response = client.request(method, url, **request)
        except httpx.TransportError as error:
            failure, wanted = f"The connection broke: {error or type(error).__name__}.", pause
        else:
            if not busy(response):
                return answer_of(response)
            failure, wanted = problem(response), retry_after(response) or pause
        if attempt < ATTEMPTS:
            time.sleep(min(wanted, LONGEST_PAUSE))
            pause *= 2
    raise FeedError(f"{method} {url} did not get through in {ATTEMPTS} attempts. {failure}")


def busy(response: httpx.Response) -> bool:
    """Whether the same request, sent again in a while, will be answered."""
    in_flight = response.status_code == 409 and "idempotency_in_flight" in response.text
    return response.status_code in (429, 503) or in_flight


def retry_after(response: httpx.Response) -> float | None:
    """The seconds that the service asks us to wait, if it says so."""
    said = response.headers.get("Retry-After", "")
    return float(said) if said.isdigit() else None


def answer_of(response: httpx.Response) -> Row:
    """The body of a request that went well; raises FeedError with the problem of another."""
    if response.status_code == 401:
        raise FeedError(f"{problem(response)} Pass --key, or set TRUESTOCK_KEY.")
    if not response.is_success:
        raise FeedError(problem(response))
    body: Row = response.json()
    return body


def problem(response: httpx.Response) -> str:
    """What a service said no with, in a sentence."""
    try:
        body = msgspec.json.decode(response.content, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return f"{response.url} answered {response.status_code}: is this Truestock?"
    return f"{response.status_code} {body.get('code')}: {body.get('detail')}"


# At a terminal --------------------------------------------------------------


@contextmanager
def bars(console: Console, name: str) -> Iterator[Report]:
    """A bar for each thing that is done with a file; none where nobody looks."""
    columns = (TextColumn("  {task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(f"{name:20} {what:7}")
            progress.update(tasks[what], completed=done, total=of)

        yield report


def in_words(sent: Sent) -> str:
    """A file's outcome in a line."""
    counts = ", ".join(f"{count:,} {what}" for what, count in sent.counts.items() if count)
    return f"{sent.total:,} {sent.noun}: {counts or 'nothing in it'}"
