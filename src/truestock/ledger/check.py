"""The proof that the books agree: movements, levels, claims and documents tell one story.

1. Each level's buckets are the sum of their movements, and their newest movement's balance.
2. What a level holds and has allocated is the sum of the claims on it, swept up or not.
3. Each open hold has the claims that its lines say, and they expire when it does.
4. Each claim belongs to an open hold or to an order.
It reads slice by slice and repairs nothing.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import asyncpg
import msgspec

from truestock.db import SQL, Connection
from truestock.model.stock import Bucket

# A slice is one statement: well within the statement timeout, and a bounded piece of memory.
SLICE_LEVELS = 5_000
SLICE_HOLDS = 2_000
SLICE_CLAIMS = 5_000
MAX_DRIFTS = 100

LAST_ITEM = 2_147_483_647
BEFORE_ALL = datetime.min.replace(tzinfo=UTC)


class DriftKind(StrEnum):
    """What disagrees with what.

    movements, balance, claims: a level's figure with their sum, or with the newest balance.
    hold: a hold's claims with its lines. orphan: a claim with its document, which is not open.
    """

    MOVEMENTS = "movements"
    BALANCE = "balance"
    CLAIMS = "claims"
    HOLD = "hold"
    ORPHAN = "orphan"


class Drift(msgspec.Struct, frozen=True):
    """A disagreement in the books, in base units; sku and location are None if unknown."""

    kind: DriftKind
    sku: str | None
    location: str | None
    bucket: Bucket
    expected: int
    found: int
    document_id: str | None = None


class Proof(msgspec.Struct):
    """How much was checked, and the first drifts that were found (MAX_DRIFTS at most)."""

    levels: int = 0
    movements: int = 0
    claims: int = 0
    holds: int = 0
    drifts: list[Drift] = []

    @property
    def missing(self) -> int:
        """How many more drifts the proof has room for."""
        return MAX_DRIFTS - len(self.drifts)


async def check(connection: Connection) -> Proof:
    """Prove the books, beside running writers; stops early when it has MAX_DRIFTS drifts."""
    proof = Proof()
    for prove in (_check_levels, _check_holds, _check_claims):
        await prove(connection, proof)
    return proof


async def _check_levels(connection: Connection, proof: Proof) -> None:
    last_item = 0
    while last_item < LAST_ITEM and proof.missing:
        rows = await connection.fetch(SQL["check_levels"], SLICE_LEVELS, last_item, proof.missing)
        last_item, levels, movements, claims = rows[0][:4]
        proof.levels += levels
        proof.movements += movements
        proof.claims += claims
        proof.drifts += _drifts(rows, 4)


async def _check_holds(connection: Connection, proof: Proof) -> None:
    last_expiry: datetime | None = BEFORE_ALL
    while last_expiry is not None and proof.missing:
        rows = await connection.fetch(SQL["check_holds"], last_expiry, SLICE_HOLDS, proof.missing)
        last_expiry, holds = rows[0][:2]
        proof.holds += holds
        proof.drifts += _drifts(rows, 2)


async def _check_claims(connection: Connection, proof: Proof) -> None:
    last: tuple[Any, ...] = ("", Bucket.ON_HAND, 0)
    while last and proof.missing:
        rows = await connection.fetch(SQL["check_claims"], *last, SLICE_CLAIMS, proof.missing)
        last = tuple(rows[0][:3]) if rows else ()
        proof.drifts += _drifts(rows, 3)


def _drifts(rows: list[asyncpg.Record], skip: int) -> list[Drift]:
    """The drifts behind a slice's own columns; a slice without any has one row of nulls."""
    return [
        Drift(DriftKind(kind), sku, location, Bucket(bucket), *rest)
        for kind, sku, location, bucket, *rest in (row[skip:] for row in rows)
        if kind is not None
    ]
