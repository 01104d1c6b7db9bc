"""A snapshot file's lines as rows: pure functions from text to columns and to what is wrong.

1. A block is parsed as a whole, column by column: a million rows have no time for a look at each.
2. Where that fails, it is parsed in slices, and a slice that fails line by line, so that one bad
   row costs its neighbours nothing but time.
"""

import csv
from collections.abc import Callable
from itertools import chain
from typing import Annotated, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from truestock.config import MAX_QUANTITY
from truestock.flows.snapshot_lines import FileFault
from truestock.model.refusal import Code

# A quantity is at most MAX_QUANTITY, which is what this holds.
Numbers: TypeAlias = NDArray[np.int32]

# Stands for "not given" in a column of numbers.
NOT_GIVEN = -1
SLICE_LINES = 256
NUMBER_COLUMNS = ("on_hand", "safety_stock", "unavailable")
COLUMNS = ("sku", "location", *NUMBER_COLUMNS)
REQUIRED = COLUMNS[:3]
MOST_DIGITS = 18


class RowFault(msgspec.Struct, frozen=True, gc=False):
    """What is wrong with one row. position: within its block.

    sku, location: what the row speaks of, where that can be read: it is not left out.
    """

    position: int
    code: Code
    detail: str
    line: str
    sku: str = ""
    location: str = ""


class Columns(msgspec.Struct):
    """Rows, column by column. positions: where in their block; NOT_GIVEN: no figure."""

    positions: Numbers
    skus: list[str]
    locations: list[str]
    on_hand: Numbers
    safety_stock: Numbers
    unavailable: Numbers


class Parsed(msgspec.Struct):
    """A block's good rows and its bad ones; `rows` of them in all."""

    rows: int
    parts: list[Columns]
    faults: list[RowFault]


# A parser of lines: columns if every line is good, None if not.
ParseAll: TypeAlias = Callable[[str, int], Columns | None]
# A parser of one line: its row, or what is wrong with it.
ParseLine: TypeAlias = Callable[[str], "Row | BadRow"]


class BadRow(msgspec.Struct, frozen=True):
    """What is wrong with a line, and what it speaks of, where that can be read."""

    detail: str
    sku: str = ""
    location: str = ""


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One row: on_hand in base units, what is None is not said."""

    sku: Annotated[str, Meta(min_length=1)]
    location: Annotated[str, Meta(min_length=1)]
    on_hand: Annotated[int, Meta(ge=0, le=MAX_QUANTITY)]
    safety_stock: Annotated[int, Meta(ge=0, le=MAX_QUANTITY)] | None = None
    unavailable: Annotated[int, Meta(ge=0, le=MAX_QUANTITY)] | None = None


# CSV -----------------------------------------------------------------------


class Header(msgspec.Struct, frozen=True):
    """A CSV file's columns, in their order."""

    names: tuple[str, ...]


def read_header(line: str) -> Header:
    """The header of a CSV file. Raises FileFault with what is wrong with it."""
    names = tuple(name.strip() for name in split_line(line) or ())
    if unknown := [name for name in names if name not in COLUMNS]:
        raise FileFault(
            f"The header has a column {unknown[0][:80]!r}; columns are {', '.join(COLUMNS)}."
        )
    if missing := [name for name in REQUIRED if name not in names]:
        raise FileFault(f"The header, the file's first line, lacks the column {missing[0]}.")
    if len(set(names)) < len(names):
        raise FileFault("The header names a column twice.")
    return Header(names)


def parse_csv(header: Header, block: str) -> Parsed:
    """The rows of a block of CSV lines."""
    return parse_lines(
        block,
        lambda text, first: parse_csv_lines(header, text, first),
        lambda line: parse_csv_line(header, line),
    )


def parse_csv_lines(header: Header, text: str, first: int) -> Columns | None:
    """Lines as columns if every one of them is good. first: the position of the first one."""
    fields = quoted_fields(header, text) if '"' in text else plain_fields(header, text)
    if fields is None:
        return None
    by_name = dict(zip(header.names, fields, strict=True))
    skus, locations = by_name["sku"], by_name["location"]
    if "" in skus or "" in locations:
        return None
    numbers = [
        as_numbers(by_name.get(name), len(skus), required=name in REQUIRED)
        for name in NUMBER_COLUMNS
    ]
    return as_columns(first, skus, locations, numbers)


def plain_fields(header: Header, text: str) -> list[list[str]] | None:
    """Fields by column. A newline gets a place of its own, which shows lines of another width."""
    width = len(header.names) + 1
    fields = text.replace("\n", ",\n,").split(",")
    newlines = text.count("\n")
    ends = fields[width - 1 :: width]
    if len(fields) != (newlines + 1) * width - 1 or ends.count("\n") != newlines:
        return None
    return [fields[position::width] for position in range(width - 1)]


def quoted_fields(header: Header, text: str) -> list[list[str]] | None:
    """Fields by column where some are quoted; a quoted newline is nothing that a name can have."""
    lines = text.split("\n")
    try:
        rows = list(csv.reader(lines, strict=True))
    except csv.Error:
        return None
    width = len(header.names)
    if len(rows) != len(lines) or any(len(row) != width for row in rows):
        return None
    return [list(column) for column in zip(*rows, strict=True)]


def as_numbers(fields: list[str] | None, rows: int, *, required: bool) -> Numbers | None:
    """A column of whole numbers from 0 to MAX_QUANTITY; None if one of them is not."""
    if fields is None:
        return np.full(rows, NOT_GIVEN, np.int32)
    digits = "".join(fields)
    if digits and not (digits.isascii() and digits.isdigit()):
        return None
    if not required:
        fields = [field or str(NOT_GIVEN) for field in fields]
    try:
        return np.fromiter(map(int, fields), np.int32, rows)
    except (ValueError, OverflowError):
        return None


def as_columns(
    first: int, skus: list[str], locations: list[str], numbers: list[Numbers | None]
) -> Columns | None:
    """Columns, unless one of the numbers could not be read."""
    positions = np.arange(first, first + len(skus), dtype=np.int32)
    on_hand, safety_stock, unavailable = numbers
    if on_hand is None or safety_stock is None or unavailable is None:
        return None
    return Columns(positions, skus, locations, on_hand, safety_stock, unavailable)


def parse_csv_line(header: Header, line: str) -> Row | BadRow:
    """One line's row, or what is wrong with it."""
    fields = split_line(line)
    if fields is None:
        return BadRow("The quotes do not match.")
    if len(fields) != len(header.names):
        return BadRow(f"The row has {len(fields)} fields, the header {len(header.names)}.")
    given = dict(zip(header.names, fields, strict=True))
    figures: list[int | None] = []
    for name in NUMBER_COLUMNS:
        digits = given.get(name, "").strip()
        if not digits and name not in REQUIRED:
            figures.append(None)
        elif digits.isascii() and digits.isdigit() and len(digits) <= MOST_DIGITS:
            figures.append(int(digits))
        else:
            detail = f"{name} must be a whole number from 0 to {MAX_QUANTITY}."
            return BadRow(detail, given["sku"], given["location"])
    return in_bounds(given["sku"], given["location"], figures)


def in_bounds(sku: str, location: str, figures: list[int | None]) -> Row | BadRow:
    """A row that holds to the bounds of `Row`, or which of them it breaks."""
    fields = dict(zip(COLUMNS, (sku, location, *figures), strict=True))
    try:
        return msgspec.convert(fields, Row)
    except msgspec.ValidationError as error:
        return BadRow(f"{error}.", sku, location)


def split_line(line: str) -> list[str] | None:
    """A CSV line's fields, None where its quotes do not match."""
    try:
        return next(csv.reader([line], strict=True), [])
    except csv.Error:
        return None


# NDJSON --------------------------------------------------------------------


class Named(msgspec.Struct):
    """What a row speaks of, whatever else is wrong with it."""

    sku: str = ""
    location: str = ""


decoder = msgspec.json.Decoder(Row)
decode_names = msgspec.json.Decoder(Named).decode


def parse_ndjson(block: str) -> Parsed:
    """The rows of a block of JSON objects, one a line."""
    return parse_lines(block, parse_json_lines, parse_json_line)


def parse_json_lines(text: str, first: int) -> Columns | None:
    """Lines as columns if every one of them is good. first: the position of the first one."""
    try:
        rows = decoder.decode_lines(text)
    except msgspec.DecodeError:
        return None
    # An object may run over a line's end, but a row may not.
    if len(rows) != text.count("\n") + 1:
        return None
    numbers: list[Numbers | None] = [
        np.fromiter((row.on_hand for row in rows), np.int32, len(rows)),
        np.fromiter((given(row.safety_stock) for row in rows), np.int32, len(rows)),
        np.fromiter((given(row.unavailable) for row in rows), np.int32, len(rows)),
    ]
    return as_columns(first, [row.sku for row in rows], [row.location for row in rows], numbers)


def parse_json_line(line: str) -> Row | BadRow:
    """One line's row, or what is wrong with it."""
    try:
        return decoder.decode(line)
    except msgspec.DecodeError as error:
        detail = f"{error}."
    try:
        named = decode_names(line)
    except msgspec.DecodeError:
        return BadRow(detail)
    return BadRow(detail, named.sku, named.location)


def given(figure: int | None) -> int:
    """A figure as it stands in a column."""
    return NOT_GIVEN if figure is None else figure


# A block's lines, whole, in slices, one by one -----------------------------


def parse_lines(block: str, parse_all: ParseAll, parse_line: ParseLine) -> Parsed:
    """A block's rows: at once if all are good, else slice by slice."""
    if not block:
        return Parsed(0, [], [])
    if columns := parse_all(block, 0):
        return Parsed(len(columns.skus), [columns], [])
    lines = block.split("\n")
    parsed = Parsed(len(lines), [], [])
    for first in range(0, len(lines), SLICE_LINES):
        part = lines[first : first + SLICE_LINES]
        if columns := parse_all("\n".join(part), first):
            parsed.parts.append(columns)
        else:
            parse_one_by_one(part, first, parse_line, parsed)
    return parsed


def parse_one_by_one(lines: list[str], first: int, parse_line: ParseLine, parsed: Parsed) -> None:
    """Add the good lines of a slice that has bad ones, and the faults of these."""
    good: list[tuple[int, Row]] = []
    for position, line in enumerate(lines, first):
        row = parse_line(line)
        if isinstance(row, Row):
            good.append((position, row))
        else:
            fault = RowFault(position, Code.VALIDATION_FAILED, row.detail, line)
            parsed.faults.append(msgspec.structs.replace(fault, sku=row.sku, location=row.location))
    if good:
        parsed.parts.append(columns_of(good))


def columns_of(rows: list[tuple[int, Row]]) -> Columns:
    """Rows that were read one by one, as columns."""
    figures = chain.from_iterable(
        (position, row.on_hand, given(row.safety_stock), given(row.unavailable))
        for position, row in rows
    )
    table = np.fromiter(figures, np.int32, 4 * len(rows)).reshape(-1, 4).T
    skus, locations = [row.sku for _, row in rows], [row.location for _, row in rows]
    return Columns(table[0], skus, locations, table[1], table[2], table[3])
