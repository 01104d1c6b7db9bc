"""`feed`: files to a running service."""

import sys
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from truestock.cli.servers import CannotError

if TYPE_CHECKING:
    import httpx

    from truestock.feed import Report, Sent

FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)
ENDINGS = (".csv", ".csv.gz", ".ndjson", ".ndjson.gz", ".json")


class Instant(click.ParamType[datetime]):
    """An RFC 3339 time with its offset."""

    name = "time"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The time; one without an offset fails, since each clock would read it otherwise."""
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time like 2026-01-31T06:00:00Z.", param, ctx)
        if at.tzinfo is None:
            self.fail(
                f"{value!r} has no offset: end it with Z for UTC, or with +01:00.", param, ctx
            )
        return at


@click.command()
@click.argument("files", nargs=-1, required=True, type=FILE)
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="The service.")
@click.option("--key", envvar="TRUESTOCK_KEY", show_envvar=True, help="An API key.")
@click.option("--source", help="The system that the facts come from, for snapshots and events.")
@click.option("--as-of", type=Instant(), help="When the shelves were as a snapshot says.")
@click.option(
    "--scope",
    type=click.Choice(["partial", "full"]),
    default="partial",
    show_default=True,
    help="full: what a snapshot leaves out of the locations that it names is zero.",
)
def feed(
    files: tuple[Path, ...],
    url: str,
    key: str | None,
    source: str | None,
    as_of: datetime | None,
    scope: str,
) -> None:
    """Send FILES to a running service.

    They go one after the other, and for each it says what became of it.

    \b
    .csv, .csv.gz        a snapshot: sku,location,on_hand[,safety_stock][,unavailable]
    .ndjson, .ndjson.gz  stock events, a JSON object a line
    .json                {"items": [...]} or {"locations": [...]}

    Sending a file again does no harm. Exit status 0: all was taken, or was known or outdated
    already; 1: something was rejected, or an import is in quarantine; 2: a file could not be sent.
    """
    if not key:
        raise click.UsageError("An API key is needed: pass --key, or set TRUESTOCK_KEY.")
    for path in files:
        check_options(path, source, as_of)
    from rich.console import Console

    from truestock.feed import FeedError, bars, check_reachable, open_client

    console = Console(stderr=True, highlight=False)
    outcomes = []
    try:
        with open_client(url, key) as client:
            check_reachable(client)
            for path in files:
                with bars(console, path.name) as report:
                    sent = send_file(client, path, source or "", as_of, scope, report)
                print_sent(path, sent)
                outcomes.append(sent)
    except FeedError as error:
        raise CannotError(str(error)) from error
    sys.exit(0 if all(sent.taken for sent in outcomes) else 1)


def ending(path: Path) -> str:
    """Which of ENDINGS a file's name has, or ''."""
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), "")


def check_options(path: Path, source: str | None, as_of: datetime | None) -> None:
    """Say what is missing to send a file, before any is sent."""
    kind = ending(path)
    if not kind:
        raise click.UsageError(f"{path.name}: a file ends in {', '.join(ENDINGS)}.")
    if kind != ".json" and not source:
        raise click.UsageError(f"{path.name} needs --source: the system that it comes from.")
    if kind.startswith(".csv") and as_of is None:
        raise click.UsageError(f"{path.name} needs --as-of: when the shelves were as it says.")


def send_file(
    client: "httpx.Client",
    path: Path,
    source: str,
    as_of: datetime | None,
    scope: str,
    report: "Report",
) -> "Sent":
    """Send a file by what its ending says that it is."""
    from truestock.feed import Snapshot, send_events, send_reference, send_snapshot

    if ending(path) == ".json":
        return send_reference(client, path, report)
    if as_of is None or ending(path).startswith(".ndjson"):
        return send_events(client, path, source, report)
    return send_snapshot(client, path, Snapshot(source, as_of, scope), report)


def print_sent(path: Path, sent: "Sent") -> None:
    """What became of a file, and what to know of it."""
    from truestock.feed import in_words

    click.echo(f"{path.name}: {in_words(sent)}")
    for note in sent.notes:
        click.echo(f"  {note}")
