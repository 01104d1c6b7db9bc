"""The demo on a small retailer: it loads once, walks each time, and leaves nothing running."""

import os
import re
import signal
import stat
import subprocess
import sys
from glob import iglob
from pathlib import Path

import httpx
import pytest

from truestock.demo import walk as walk_module
from truestock.demo.show import open_console
from truestock.demo.stage import Stage
from truestock.demo.steps import Cast
from truestock.demo.walk import STEPS, Step, walk

SMALL = ("--stores", "6", "--items", "80")
SECONDS = 60


def start(data_dir: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    """Start the demo in a folder, on servers of its own."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("TRUESTOCK_")}
    command = [sys.executable, "-m", "truestock", "demo", "--data-dir", str(data_dir), *options]
    return subprocess.Popen(
        command,
        env=ours | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process: subprocess.Popen[str], wanted: str) -> str:
    """What it says, up to the line that has these words."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if wanted in line:
            return said
    raise AssertionError(f"It never said {wanted!r}:\n{said}")


def processes_in(folder: Path) -> list[str]:
    """The processes that work in a folder, where /proc tells."""
    found = []
    for link in iglob("/proc/[0-9]*/cwd"):
        try:
            if Path(os.readlink(link)).is_relative_to(folder):
                found.append(Path(link).with_name("cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_it_loads_once_walks_each_time_and_ends_cleanly(tmp_path: Path) -> None:
    first = start(tmp_path, *SMALL)
    said = read_until(first, "Do the books agree?")
    url = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert url is not None
    assert httpx.get(f"{url[0]}/health/live").status_code == 200
    first.send_signal(signal.SIGTERM)
    said += first.communicate(timeout=SECONDS)[0]
    assert first.returncode == 0, said
    assert "Loaded in" in said
    # Each step gave what it should, and where nobody looks there are no control characters.
    assert all(step.name in said for step in STEPS)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f✗]", said)
    assert processes_in(tmp_path) == []
    key = tmp_path / "demo" / "bootstrap-key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert f"export TRUESTOCK_KEY={key.read_text()}" in said

    second = start(tmp_path, *SMALL, DEMO_ONCE="1")
    said = second.communicate(timeout=SECONDS)[0]
    assert second.returncode == 0, said
    assert "Found the demo retailer as it was left." in said
    assert "Try it" not in said
    assert processes_in(tmp_path) == []


def test_a_service_that_does_not_start_is_shown_with_its_log(tmp_path: Path) -> None:
    elsewhere = {
        "TRUESTOCK_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/none",
        "TRUESTOCK_REDIS_URL": "redis://127.0.0.1:9",
    }
    process = start(tmp_path, DEMO_ONCE="1", **elsewhere)
    said = process.communicate(timeout=SECONDS)[0]
    assert process.returncode == 2
    assert "The service ended. The last lines of" in said
    assert "Connection refused" in said
    assert processes_in(tmp_path) == []


def nobody(request: httpx.Request) -> httpx.Response:
    return httpx.Response(500, json={"code": "internal_error"})


def test_a_step_that_gives_another_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    cast = Cast("oslo", 59.9, 10.7, "tee", "mug")
    monkeypatch.setattr(walk_module, "choose", lambda stage: cast)
    monkeypatch.setattr(
        walk_module,
        "STEPS",
        (
            Step("Fine", "It is.", lambda stage, cast: None),
            Step("Odd", "It is not.", lambda stage, cast: stage.call("GET", "/v1/items") and None),
            Step("Never", "Not reached.", lambda stage, cast: pytest.fail("it went on")),
        ),
    )
    with httpx.Client(base_url="http://shop", transport=httpx.MockTransport(nobody)) as client:
        found, failure = walk(Stage(client, open_console(), "run"))
    assert found is cast
    assert failure == "The walk failed in step 2, 'Odd': should be 200, was 500"


def test_a_service_with_nothing_to_show_fails_the_walk() -> None:
    with httpx.Client(base_url="http://shop", transport=httpx.MockTransport(nobody)) as client:
        assert "choosing a store" in walk(Stage(client, open_console(), "run"))[1]
