"""`serve` and `migrate`."""

import asyncio
import os
from pathlib import Path

import click

from truestock.cli.servers import (
    data_dir_option,
    database_url,
    end_cleanly,
    reaching_database,
    servers,
)

SHUTDOWN_SECONDS = 10


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535))
@data_dir_option
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64))
@click.option("--jobs/--no-jobs", default=True, help="Run the timetable in these processes.")
def serve(host: str, port: int, data_dir: Path, workers: int, jobs: bool) -> None:
    """Serve the API, with embedded servers unless the environment names others."""
    import uvicorn

    os.environ.setdefault("TRUESTOCK_JOBS", "1" if jobs else "0")
    # uvicorn ends on a signal and then passes it on: to here, so that the servers end, too.
    end_cleanly()
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


@click.command()
@data_dir_option
def migrate(data_dir: Path) -> None:
    """Bring the database's schema up to date."""
    from truestock import db

    with servers(data_dir), reaching_database():
        applied = asyncio.run(db.migrate(database_url()))
    for step in applied:
        click.echo(f"applied {step.number:04d}_{step.name}")
    if not applied:
        click.echo("The schema is up to date.")
