"""`key`: API keys, made straight in the database, so that the first one needs no other."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from truestock.cli.servers import (
    CannotError,
    data_dir_option,
    database_url,
    reaching_database,
    servers,
)
from truestock.model.caller import Scope

if TYPE_CHECKING:
    from truestock.flows.services import Services
    from truestock.model.keys import KeyInfo, KeyRequest

DAYS = click.IntRange(1, 36_500)
SCOPES = click.Choice([scope.value for scope in Scope])


@click.command()
@click.option("--name", help="Whose key it is: the web shop, a store's tablet, the ERP.")
@click.option("--scope", "scopes", multiple=True, type=SCOPES, help="What it is for. Repeatable.")
@click.option("--source", "sources", multiple=True, help="Bind it to this source. Repeatable.")
@click.option(
    "--location", "locations", multiple=True, help="Bind it to this location. Repeatable."
)
@click.option(
    "--expires-in-days", "days", type=DAYS, help="Let it run out. Default: it never does."
)
@click.option("--list", "listing", is_flag=True, help="List the keys that work instead.")
@click.option("--revoke", metavar="KEY_ID", help="Revoke a key instead, at once and for good.")
@data_dir_option
def key(
    name: str | None,
    scopes: tuple[str, ...],
    sources: tuple[str, ...],
    locations: tuple[str, ...],
    days: int | None,
    listing: bool,
    revoke: str | None,
    data_dir: Path,
) -> None:
    """Make an API key and print it, this once.

    Only a hash of it is kept. The key alone goes to standard output, so that it can be piped into
    a secret store.
    """
    if listing or revoke:
        if name or scopes or sources or locations or days or (listing and revoke):
            raise click.UsageError("--list and --revoke stand alone.")
        work = list_all() if listing else revoke_one(str(revoke))
    elif not name or not scopes:
        raise click.UsageError("A key needs a --name and at least one --scope.")
    else:
        work = create(request_of(name, scopes, sources, locations, days))
    with servers(data_dir), reaching_database():
        asyncio.run(work)


def request_of(
    name: str,
    scopes: tuple[str, ...],
    sources: tuple[str, ...],
    locations: tuple[str, ...],
    days: int | None,
) -> "KeyRequest":
    """The options as the API would be asked; raises UsageError where it would refuse them."""
    from truestock.model.keys import KeyRequest

    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    asked = {"name": name, "scopes": scopes, "sources": sources, "locations": locations}
    try:
        return msgspec.convert(asked | {"expires_at": expires_at}, KeyRequest)
    except msgspec.ValidationError as error:
        raise click.UsageError(str(error)) from error


@asynccontextmanager
async def opened() -> AsyncIterator["Services"]:
    """The services of one process, on a database with its schema."""
    from truestock import db
    from truestock.config import Settings
    from truestock.flows.services import open_services

    await db.migrate(database_url())
    async with open_services(Settings.from_environment()) as services:
        yield services


async def create(request: "KeyRequest") -> None:
    """Make a key and show it."""
    from truestock.flows.keys import make_key

    async with opened() as services:
        made = await make_key(services, request)
    click.echo(f"{made.key_id}: keep the key, it is not shown again.", err=True)
    click.echo(made.key)


async def list_all() -> None:
    """Print every key that works, without its secret."""
    from truestock.flows.keys import list_keys
    from truestock.model.keys import PageQuery

    keys: list[KeyInfo] = []
    cursor: str | None = ""
    async with opened() as services:
        while cursor is not None:
            page = await list_keys(services, PageQuery(cursor=cursor or None, limit=1_000))
            keys += page.keys
            cursor = page.cursor
    print_keys(keys)


def print_keys(keys: Iterable["KeyInfo"]) -> None:
    """The keys as a table, no cell cut: an id is there to be copied."""
    rows = [("key_id", "name", "expires", "scopes", "bound to")]
    for each in keys:
        bound = ",".join([*each.sources, *each.locations]) or "-"
        expires = f"{each.expires_at:%Y-%m-%d}" if each.expires_at else "never"
        rows.append((each.key_id, each.name, expires, ",".join(each.scopes), bound))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


async def revoke_one(key_id: str) -> None:
    """Revoke a key."""
    from truestock.flows.keys import revoke_key

    async with opened() as services:
        refusal = await revoke_key(services, key_id)
    if refusal:
        raise CannotError(refusal.detail)
    click.echo(f"{key_id} is revoked.")
