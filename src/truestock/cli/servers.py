"""What every command that works beside the service needs: its servers, and a clean end."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from truestock.telemetry import configure_logging

STOPS = (signal.SIGINT, signal.SIGTERM)

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("data"),
    envvar="TRUESTOCK_DATA_DIR",
    show_default=True,
    show_envvar=True,
    help="Where the embedded PostgreSQL and Redis keep their data.",
)


class CannotError(click.ClickException):
    """The command could not do its work; the message says why and what to do."""

    exit_code = 2


@contextmanager
def servers(data_dir: Path) -> Iterator[None]:
    """The servers that the environment names, else embedded ones while the block runs."""
    configure_logging("warning", "auto")
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
        raise CannotError(str(error)) from error


def database_url() -> str:
    """The database that the environment (by now) names."""
    return os.environ["TRUESTOCK_DATABASE_URL"]


@contextmanager
def reaching_database() -> Iterator[None]:
    """Say in a sentence that the database cannot be reached, or has no schema yet."""
    import asyncpg

    from truestock.db import LOST_CONNECTION, MigrationError
    from truestock.telemetry import describe

    try:
        yield
    except MigrationError as error:
        raise CannotError(str(error)) from error
    except asyncpg.UndefinedTableError as error:
        raise CannotError("The database has no schema yet: run `truestock migrate`.") from error
    except (*LOST_CONNECTION, asyncpg.InvalidAuthorizationSpecificationError) as error:
        what = "The database cannot be used; see TRUESTOCK_DATABASE_URL"
        raise CannotError(f"{what}. {describe(error)}") from error


def end_cleanly() -> None:
    """Let SIGTERM end the command as Ctrl-C does; once it ends, no further signal disturbs that."""
    for stop in STOPS:
        signal.signal(stop, _interrupt)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for stop in STOPS:
        signal.signal(stop, signal.SIG_IGN)
    raise KeyboardInterrupt
