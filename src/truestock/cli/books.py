"""`check`: the proof that the books agree."""

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from truestock.cli.servers import data_dir_option, database_url, reaching_database, servers

if TYPE_CHECKING:
    from truestock.ledger.check import Drift, Proof


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the proof as one JSON object.")
@data_dir_option
def check(as_json: bool, data_dir: Path) -> None:
    """Prove that the books agree.

    Levels are the sums of their movements, and claims belong to holds and orders. It reads beside
    running writers and repairs nothing. Exit status 1 when anything drifts.
    """
    with servers(data_dir), reaching_database():
        begun = time.perf_counter()
        proof = asyncio.run(prove())
        seconds = time.perf_counter() - begun
    if as_json:
        found = msgspec.to_builtins(proof) | {"seconds": round(seconds, 3)}
        click.echo(msgspec.json.encode(found))
    else:
        print_proof(proof, seconds)
    sys.exit(1 if proof.drifts else 0)


async def prove() -> "Proof":
    """Run the proof on a connection of its own."""
    from truestock import db
    from truestock.ledger.check import check as check_books

    connection = await db.connect(database_url())
    try:
        return await check_books(connection)
    finally:
        await connection.close()


def print_proof(proof: "Proof", seconds: float) -> None:
    """What was proven, and each drift."""
    read = ", ".join(
        f"{count:,} {noun}"
        for noun, count in (
            ("movements", proof.movements),
            ("levels", proof.levels),
            ("claims of holds and orders", proof.claims),
            ("open holds", proof.holds),
        )
    )
    click.echo(f"Read in {seconds:.1f} s: {read}.")
    for drift in proof.drifts:
        click.echo(describe_drift(drift))
    if proof.drifts:
        more = "" if proof.missing else " or more, where the proof stopped"
        click.echo(f"The books do not agree: {len(proof.drifts)} drifts{more}.")
    else:
        click.echo("The books agree: Σ movements = levels, in every bucket.")


def describe_drift(drift: "Drift") -> str:
    """A drift in a line."""
    where = f"{drift.sku or 'unknown sku'} at {drift.location or 'unknown location'}"
    document = f" ({drift.document_id})" if drift.document_id else ""
    figures = f"should be {drift.expected}, is {drift.found}"
    return f"  {drift.kind}: {where}{document}: {drift.bucket} {figures}"
