"""The survey of a snapshot file: it is read as a whole before any of it is applied.

1. Read the file block by block; parse it, and look up what its rows name.
2. Note what is wrong with which row.
3. A full file says zero for what it leaves out.
4. Sort by (item, location): of a key's rows the last one wins, the others are noted too.
So a file that cannot be read changes nothing, and what is applied comes in the order of locks.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from functools import partial
from itertools import repeat

import msgspec
import numpy as np
from numpy.typing import NDArray

from truestock.config import MAX_ERROR_LINE, MAX_IMPORT_ERRORS, MAX_IMPORT_NAMES, MAX_IMPORT_ROWS
from truestock.db import SQL, Connection
from truestock.flows.snapshot_lines import FileFault, Lines
from truestock.flows.snapshot_rows import (
    NOT_GIVEN,
    Columns,
    Parsed,
    RowFault,
    parse_csv,
    parse_ndjson,
    read_header,
)
from truestock.ledger.snapshot import Counts
from truestock.model.refusal import Code

# An item and a location as one number that sorts as the pair does.
Keys = NDArray[np.int64]

# What only a file's row can be: no request is refused with this code.
DUPLICATE_ROW = "duplicate_row"
OVERRULED = "A later row gives this sku at this location again, and wins."
# No item and no location has this number.
UNKNOWN = 0


class ImportRun(msgspec.Struct, frozen=True):
    """An import as the one who runs it sees it. lane_items: how far each lane has come."""

    import_id: int
    source_id: int
    source: str
    as_of: datetime
    scope: str
    format: str
    encoding: str
    location_ids: list[int] | None
    allowed_location_ids: list[int] | None
    pieces: int
    lane_items: list[int]


class Survey(msgspec.Struct):
    """What a file says, in the order of locks; its rows, and how many of them were rejected."""

    counts: Counts
    rows: int = 0
    rejected: int = 0


class Found(msgspec.Struct):
    """Counts of known items at known locations, each with its row's number in the file."""

    row_nos: NDArray[np.int32]
    counts: Counts

    @property
    def keys(self) -> Keys:
        """Which item where."""
        return as_keys(self.counts.item_ids, self.counts.location_ids)


class Names(msgspec.Struct):
    """The ledger's numbers for names; an unknown sku is kept too, as UNKNOWN."""

    items: dict[str, int]
    locations: dict[str, int]


def as_keys(item_ids: NDArray[np.int32], location_ids: NDArray[np.int32]) -> Keys:
    """Pairs as one number each."""
    return item_ids.astype(np.int64) << 32 | location_ids


async def survey(connection: Connection, run: ImportRun) -> Survey:
    """Read the whole file, and write down its errors. Raises FileFault if it cannot be read."""
    await connection.execute(SQL["forget_import_errors"], run.import_id)
    names = Names({}, await known_locations(connection, run))
    found, unclear = [nothing_found()], [np.empty(0, np.int64)]
    result = Survey(found[0].counts)
    async for block, parsed in parsed_blocks(connection, run):
        first_row = result.rows + 1
        result.rows += parsed.rows
        if result.rows > MAX_IMPORT_ROWS:
            raise FileFault(f"The file has more than {MAX_IMPORT_ROWS} rows: split it by location.")
        await learn_items(connection, names, parsed)
        unclear.append(keys_of_faults(names, parsed.faults))
        found += [resolve(names, part, block, first_row, parsed.faults) for part in parsed.parts]
        rows = ((first_row + f.position, f.code, f.detail, f.line) for f in parsed.faults)
        await reject(connection, run, result, sorted(rows))
    if run.scope == "full":
        found.append(await left_out(connection, run, found, unclear))
    result.counts, overruled = await asyncio.to_thread(in_lock_order, found)
    await reject_overruled(connection, run, result, overruled)
    return result


# Reading -------------------------------------------------------------------


async def blocks(connection: Connection, run: ImportRun) -> AsyncIterator[str]:
    """The file as blocks of whole lines, unpacked. Raises FileFault."""
    lines = Lines(run.encoding)
    for piece_no in range(run.pieces):
        piece = await connection.fetchval(SQL["read_import_piece"], run.import_id, piece_no)
        completed = lines.feed(piece)
        # A piece may unpack to a hundred times its size: one block at a time.
        while (block := await asyncio.to_thread(next, completed, None)) is not None:
            yield block
    for block in lines.close():
        yield block


async def parsed_blocks(
    connection: Connection, run: ImportRun
) -> AsyncIterator[tuple[str, Parsed]]:
    """The file's blocks, without the header, as text and as rows. Raises FileFault."""
    parse: Callable[[str], Parsed] | None = parse_ndjson if run.format == "ndjson" else None
    async for block in blocks(connection, run):
        if parse is None:
            header, _, block = block.partition("\n")
            parse = partial(parse_csv, read_header(header))
        yield block, await asyncio.to_thread(parse, block)
    if parse is None:
        read_header("")


async def known_locations(connection: Connection, run: ImportRun) -> dict[str, int]:
    """The locations that the sender may write, by name."""
    rows = await connection.fetch(SQL["find_locations"], run.allowed_location_ids)
    return {row["location"]: row["location_id"] for row in rows}


async def learn_items(connection: Connection, names: Names, parsed: Parsed) -> None:
    """Look up the skus of a block that have not been asked for yet."""
    named = set[str]().union(*(part.skus for part in parsed.parts))
    named.update(fault.sku for fault in parsed.faults)
    missing = named - names.items.keys()
    if len(names.items) + len(missing) > MAX_IMPORT_NAMES:
        names.items.clear()
        missing = named
    if missing:
        names.items.update(dict.fromkeys(missing, UNKNOWN))
        # PostgreSQL's text has no NUL, so no sku has one either.
        askable = [sku for sku in missing if "\0" not in sku]
        rows = await connection.fetch(SQL["find_import_items"], askable)
        names.items.update((row["sku"], row["item_id"]) for row in rows)


def resolve(
    names: Names, part: Columns, block: str, first_row: int, faults: list[RowFault]
) -> Found:
    """Rows with the ledger's numbers; rows that name what nobody knows become faults."""
    rows = len(part.skus)
    item_ids = np.fromiter(map(names.items.__getitem__, part.skus), np.int32, rows)
    found = map(names.locations.get, part.locations, repeat(UNKNOWN))
    location_ids = np.fromiter(found, np.int32, rows)
    counts = Counts(
        item_ids,
        location_ids,
        part.on_hand,
        part.safety_stock,
        part.unavailable,
        np.ones(rows, np.bool_),
    )
    known = (item_ids != UNKNOWN) & (location_ids != UNKNOWN)
    row_nos = part.positions + first_row
    if known.all():
        return Found(row_nos, counts)
    faults += name_faults(part, np.flatnonzero(~known), item_ids, block.split("\n"))
    return Found(row_nos[known], counts.take(known))


def name_faults(
    part: Columns, places: NDArray[np.intp], item_ids: NDArray[np.int32], lines: list[str]
) -> list[RowFault]:
    """What is wrong with rows that name an unknown sku or, if that is known, location."""
    faults = []
    for place in places.tolist():
        position = int(part.positions[place])
        if item_ids[place] == UNKNOWN:
            code, detail = Code.UNKNOWN_SKU, f"There is no item {part.skus[place][:128]!r}."
        else:
            code = Code.UNKNOWN_LOCATION
            detail = f"There is no location {part.locations[place][:128]!r}."
        faults.append(RowFault(position, code, detail, lines[position]))
    return faults


def keys_of_faults(names: Names, faults: list[RowFault]) -> Keys:
    """What bad rows speak of: their figure is not known, but they are not left out."""
    pairs = [(names.items[f.sku], names.locations.get(f.location, UNKNOWN)) for f in faults]
    table = np.array(pairs, np.int32).reshape(-1, 2)
    return as_keys(table[:, 0], table[:, 1])


# What the file leaves out, and what it says twice --------------------------


def nothing_found() -> Found:
    """No rows."""
    empty = np.empty(0, np.int32)
    return Found(empty, Counts(empty, empty, empty, empty, empty, np.empty(0, np.bool_)))


async def left_out(
    connection: Connection, run: ImportRun, found: list[Found], unclear: list[Keys]
) -> Found:
    """Zero for each level at the file's locations that the file does not speak of.

    Locations: those that the request names, else those that the file does; never one that the
    sender may not write.
    """
    named = run.location_ids
    if named is None:
        named = np.unique(np.concatenate([part.counts.location_ids for part in found])).tolist()
    spoken_of = np.concatenate([*(part.keys for part in found), *unclear])
    rows = await connection.fetch(SQL["list_stocked_items"], named, run.allowed_location_ids)
    stocked = [
        as_keys(np.array(row["item_ids"], np.int32), np.array(row["location_id"], np.int32))
        for row in rows
    ]
    keys = np.setdiff1d(np.concatenate([np.empty(0, np.int64), *stocked]), spoken_of)
    says_unavailable = any((part.counts.unavailable != NOT_GIVEN).any() for part in found)
    zeros = np.zeros(len(keys), np.int32)
    counts = Counts(
        (keys >> 32).astype(np.int32),
        (keys & 0xFFFFFFFF).astype(np.int32),
        zeros,
        np.full(len(keys), NOT_GIVEN, np.int32),
        zeros if says_unavailable else np.full(len(keys), NOT_GIVEN, np.int32),
        np.zeros(len(keys), np.bool_),
    )
    return Found(zeros, counts)


def in_lock_order(found: list[Found]) -> tuple[Counts, NDArray[np.int32]]:
    """Counts by (item, location), the last row of each key; and the numbers of the other rows."""
    keys = np.concatenate([part.keys for part in found])
    # Stable, and the parts come in the order of the file: within a key, the last row is last.
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    wins = np.ones(len(keys), np.bool_)
    wins[:-1] = keys[1:] != keys[:-1]
    row_nos = np.concatenate([part.row_nos for part in found])
    overruled = np.sort(row_nos[order[~wins]])
    winners = order[wins]
    names = Counts.__struct_fields__
    columns = (np.concatenate([getattr(part.counts, name) for part in found]) for name in names)
    return Counts(*(column[winners] for column in columns)), overruled


# What is wrong with the file -----------------------------------------------


async def reject(
    connection: Connection,
    run: ImportRun,
    result: Survey,
    rows: Iterable[tuple[int, str, str, str]],
) -> None:
    """Count rows that are rejected, and write them down as long as there is room."""
    noted = list(rows)
    room = max(0, MAX_IMPORT_ERRORS - result.rejected)
    result.rejected += len(noted)
    if noted := noted[:room]:
        row_nos, codes, details, lines = (list(column) for column in zip(*noted, strict=True))
        await connection.execute(
            SQL["write_import_errors"],
            run.import_id,
            row_nos,
            codes,
            [printable(detail) for detail in details],
            [printable(line[:MAX_ERROR_LINE]) for line in lines],
        )


def printable(text: str) -> str:
    """A text as PostgreSQL can keep it."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


async def reject_overruled(
    connection: Connection, run: ImportRun, result: Survey, overruled: NDArray[np.int32]
) -> None:
    """Note the rows that a later one overruled; for their lines the file is read once more."""
    room = max(0, MAX_IMPORT_ERRORS - result.rejected)
    noted = overruled[:room]
    # A CSV file's line 0 is its header.
    first_row = 0 if run.format == "csv" else 1
    if len(noted):
        async for block in blocks(connection, run):
            lines = block.split("\n")
            start, end = np.searchsorted(noted, (first_row, first_row + len(lines)))
            here = noted[start:end].tolist()
            rows = [(no, DUPLICATE_ROW, OVERRULED, lines[no - first_row]) for no in here]
            await reject(connection, run, result, rows)
            first_row += len(lines)
    result.rejected += len(overruled) - len(noted)
