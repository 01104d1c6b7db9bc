"""The command: serve, migrate, demo, feed, key and check."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from truestock import __version__, db
from truestock.config import ConfigError

DEFAULT_DATA = Path(os.environ.get("TRUESTOCK_DATA_DIR", "data"))
SHUTDOWN_SECONDS = 10

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_DATA,
    show_default=True,
    help="Where the embedded PostgreSQL and Redis keep their data.",
)


@contextmanager
def servers(data_dir: Path) -> Iterator[None]:
    """The servers that the environment names, else embedded ones while the block runs."""
    if "TRUESTOCK_DATABASE_URL" in os.environ and "TRUESTOCK_REDIS_URL" in os.environ:
        yield
        return
    from truestock.embedded import EmbeddedError, embedded_servers

    try:
        with embedded_servers(data_dir) as running:
            os.environ.setdefault("TRUESTOCK_DATABASE_URL", running.database_url)
            os.environ.setdefault("TRUESTOCK_REDIS_URL", running.redis_url)
            yield
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="truestock")
def main() -> None:
    """Truestock: real-time inventory and pickup, one ledger over all channels."""


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@data_dir_option
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--jobs/--no-jobs", default=True, help="Run the timetable in these processes.")
def serve(host: str, port: int, data_dir: Path, workers: int, jobs: bool) -> None:
    """Serve the API, with embedded servers unless the environment names others."""
    import uvicorn

    os.environ.setdefault("TRUESTOCK_JOBS", "1" if jobs else "0")
    with servers(data_dir):
        if not os.environ.get("TRUESTOCK_BOOTSTRAP_KEY"):
            click.echo(
                "TRUESTOCK_BOOTSTRAP_KEY is not set: only keys made by `truestock key` work.",
                err=True,
            )
        uvicorn.run(
            "truestock.app:create_app",
            factory=True,
            host=host,
            port=port,
            workers=workers,
            loop="uvloop",
            http="httptools",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        )


@main.command()
@data_dir_option
def migrate(data_dir: Path) -> None:
    """Bring the database's schema up to date."""
    with servers(data_dir):
        applied = asyncio.run(db.migrate(database_url()))
    for step in applied:
        click.echo(f"applied {step.number:04d}_{step.name}")
    if not applied:
        click.echo("The schema is up to date.")


def database_url() -> str:
    """The database that the environment (by now) names."""
    return os.environ["TRUESTOCK_DATABASE_URL"]


def run() -> None:
    """The entry point: settings that cannot be used end in a sentence, not in a traceback."""
    try:
        main()
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
