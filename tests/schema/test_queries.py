"""Every named query fits the schema, says why it is there, and fills the Struct it is read into."""

import re
from pathlib import Path

import msgspec
import pytest

from truestock.db import SQL, Connection, sql_folder
from truestock.flows.insight import MovementAnswer, SourceAnswer
from truestock.model.decision import Claim
from truestock.model.keys import KeyInfo
from truestock.model.place import ItemRef
from truestock.model.reservation import Reservation
from truestock.model.stock import Level

FILES = sorted(Path(str(sql_folder() / "queries")).glob("*.sql"))

# What is read by position: the query's first columns are the Struct's first fields.
FILLS = {
    "lock_reservations": Reservation,
    "read_claims": Claim,
    "lock_levels": Level,
    "find_items": ItemRef,
    "list_movements": MovementAnswer,
    "list_sources": SourceAnswer,
    "list_keys": KeyInfo,
}


# Scripts (`-- name: x#`) take no arguments, and may have several statements.
SCRIPTS = {
    name
    for file in FILES
    for name in re.findall(r"^-- name: *(\w+)#", file.read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("name", SQL)
async def test_prepares(undone: Connection, name: str) -> None:
    statements = SQL[name].rstrip("; \n").split(";") if name in SCRIPTS else [SQL[name]]
    for statement in statements:
        await undone.prepare(statement)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_says_why(file: Path) -> None:
    blocks = re.split(r"^-- name: *(\S+)\n", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for name, block in zip(blocks[1::2], blocks[2::2], strict=True):
        assert re.match(r"-- \S.{10,}\.?\n", block), f"{name} in {file.name} has no why-line"


@pytest.mark.parametrize("name", FILLS)
async def test_fills_its_struct(undone: Connection, name: str) -> None:
    prepared = await undone.prepare(SQL[name])
    columns = [attribute.name for attribute in prepared.get_attributes()]
    fields = [field.name for field in msgspec.structs.fields(FILLS[name])]
    # The clock stands behind a level's own columns.
    columns = [column for column in columns if column != "read_at"]
    assert columns == fields[: len(columns)]
    required = [field.name for field in msgspec.structs.fields(FILLS[name]) if field.required]
    assert set(required) <= set(columns)
