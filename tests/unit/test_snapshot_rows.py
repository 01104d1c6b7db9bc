"""Snapshot files as rows: what is read, what is refused row by row, and what as a whole."""

import gzip
import zlib
from typing import Any

import pytest

from truestock import config
from truestock.flows import snapshot_lines
from truestock.flows.snapshot_lines import FileFault, Lines
from truestock.flows.snapshot_rows import (
    NOT_GIVEN,
    SLICE_LINES,
    Parsed,
    parse_csv,
    parse_ndjson,
    read_header,
)

PLAIN = read_header("sku,location,on_hand")
FULL = read_header("unavailable,sku,on_hand,location,safety_stock")


def rows(parsed: Parsed) -> list[tuple[Any, ...]]:
    """Good rows, with their positions: (position, sku, location, on_hand, safety, unavailable)."""
    return [
        (int(position), sku, location, int(on_hand), int(safety_stock), int(unavailable))
        for part in parsed.parts
        for position, sku, location, on_hand, safety_stock, unavailable in zip(
            part.positions,
            part.skus,
            part.locations,
            part.on_hand,
            part.safety_stock,
            part.unavailable,
            strict=True,
        )
    ]


def faults(parsed: Parsed) -> list[tuple[int, str]]:
    """Bad rows: (position, detail)."""
    return [(fault.position, fault.detail) for fault in parsed.faults]


def read(*pieces: bytes, encoding: str = "identity") -> str:
    """A file's lines, as they come out of its pieces."""
    lines = Lines(encoding)
    blocks = [block for piece in pieces for block in lines.feed(piece)]
    return "\n".join([*blocks, *lines.close()])


# CSV -----------------------------------------------------------------------


def test_plain_rows() -> None:
    parsed = parse_csv(PLAIN, "tee,oslo,5\nmug,rome,0")
    assert rows(parsed) == [
        (0, "tee", "oslo", 5, NOT_GIVEN, NOT_GIVEN),
        (1, "mug", "rome", 0, NOT_GIVEN, NOT_GIVEN),
    ]
    assert (parsed.rows, parsed.faults) == (2, [])


def test_columns_come_in_any_order_and_optional_ones_may_be_empty() -> None:
    parsed = parse_csv(FULL, "1,tee,5,oslo,2\n,mug,7,rome,")
    assert rows(parsed) == [
        (0, "tee", "oslo", 5, 2, 1),
        (1, "mug", "rome", 7, NOT_GIVEN, NOT_GIVEN),
    ]


def test_quotes_hide_commas_and_quotes() -> None:
    parsed = parse_csv(PLAIN, '"a,""b""",oslo,5\nmug,rome,"6"')
    assert rows(parsed) == [
        (0, 'a,"b"', "oslo", 5, NOT_GIVEN, NOT_GIVEN),
        (1, "mug", "rome", 6, NOT_GIVEN, NOT_GIVEN),
    ]


MUST_BE_WHOLE = "on_hand must be a whole number from 0 to 2147483647."


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("tee,oslo,-1", MUST_BE_WHOLE),
        ("tee,oslo,1.5", MUST_BE_WHOLE),
        ("tee,oslo,1_000", MUST_BE_WHOLE),
        ("tee,oslo,٣", MUST_BE_WHOLE),
        ("tee,oslo,", MUST_BE_WHOLE),
        ("tee,oslo," + "9" * 5_000, MUST_BE_WHOLE),
        ("tee,oslo,2147483648", "Expected `int` <= 2147483647 - at `$.on_hand`."),
        (",oslo,1", "Expected `str` of length >= 1 - at `$.sku`."),
        ("tee,,1", "Expected `str` of length >= 1 - at `$.location`."),
        ("tee,oslo", "The row has 2 fields, the header 3."),
        ("tee,oslo,1,2", "The row has 4 fields, the header 3."),
        ('"tee,oslo,1', "The quotes do not match."),
        ('tee,"os"lo,1', "The quotes do not match."),
    ],
)
def test_a_bad_row_says_why_and_spares_its_neighbours(line: str, detail: str) -> None:
    parsed = parse_csv(PLAIN, f"mug,rome,1\n{line}\ncap,rome,2")
    assert [row[1] for row in rows(parsed)] == ["mug", "cap"]
    assert faults(parsed) == [(1, detail)]
    assert parsed.faults[0].line == line


def test_rows_whose_widths_make_up_for_each_other_are_both_bad() -> None:
    # Two fields, then four: six in all, as two good rows have.
    parsed = parse_csv(PLAIN, "tee,oslo\n1,mug,rome,2")
    assert [position for position, _ in faults(parsed)] == [0, 1]


def test_a_bad_row_in_a_long_block_costs_no_other_its_place() -> None:
    lines = [f"tee-{number},oslo,{number}" for number in range(3 * SLICE_LINES)]
    lines[SLICE_LINES + 5] = "no row"
    parsed = parse_csv(PLAIN, "\n".join(lines))
    assert parsed.rows == len(lines)
    assert [position for position, _ in faults(parsed)] == [SLICE_LINES + 5]
    assert all(sku == f"tee-{position}" for position, sku, *_ in rows(parsed))
    assert len(rows(parsed)) == len(lines) - 1


def test_a_row_with_a_bad_figure_still_says_what_it_speaks_of() -> None:
    [fault] = parse_csv(PLAIN, "tee,oslo,many").faults
    assert (fault.sku, fault.location) == ("tee", "oslo")
    [fault] = parse_ndjson('{"sku": "tee", "location": "oslo", "on_hand": "many"}').faults
    assert (fault.sku, fault.location) == ("tee", "oslo")


@pytest.mark.parametrize(
    ("header", "sentence"),
    [
        ("", "lacks the column sku"),
        ("sku,on_hand", "lacks the column location"),
        ("tee,oslo,5", "has a column 'tee'"),
        ("sku,location,on_hand,colour", "has a column 'colour'"),
        ("sku,location,on_hand,sku", "names a column twice"),
        ('"sku,location,on_hand', "lacks the column sku"),
    ],
)
def test_a_file_without_a_good_header_is_refused(header: str, sentence: str) -> None:
    with pytest.raises(FileFault, match=sentence):
        read_header(header)


def test_a_header_may_have_quotes_and_spaces() -> None:
    assert read_header('"sku", location ,on_hand').names == ("sku", "location", "on_hand")


# NDJSON --------------------------------------------------------------------


def test_json_rows() -> None:
    parsed = parse_ndjson(
        '{"sku": "tee", "location": "oslo", "on_hand": 5}\n'
        '{"unavailable": 1, "sku": "mug", "location": "rome", "on_hand": 6, "safety_stock": null}'
    )
    assert rows(parsed) == [
        (0, "tee", "oslo", 5, NOT_GIVEN, NOT_GIVEN),
        (1, "mug", "rome", 6, NOT_GIVEN, 1),
    ]


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ('{"sku": "tee", "location": "oslo"}', "missing required field `on_hand`"),
        ('{"sku": "tee", "location": "oslo", "on_hand": -1}', ">= 0"),
        ('{"sku": "tee", "location": "oslo", "on_hand": 1.5}', "Expected `int`"),
        ('{"sku": "tee", "location": "oslo", "on_hand": 1, "colour": 1}', "unknown field"),
        ("tee,oslo,5", "invalid"),
        ("[]", "Expected `object`"),
    ],
)
def test_a_bad_json_row_says_why_and_spares_its_neighbours(line: str, detail: str) -> None:
    good = '{"sku": "mug", "location": "rome", "on_hand": 1}'
    parsed = parse_ndjson(f"{good}\n{line}\n{good}")
    assert [row[:2] for row in rows(parsed)] == [(0, "mug"), (2, "mug")]
    [(position, sentence)] = faults(parsed)
    assert position == 1
    assert detail in sentence


def test_an_object_over_two_lines_is_two_bad_rows() -> None:
    parsed = parse_ndjson('{"sku": "tee", "location": "oslo",\n"on_hand": 5}')
    assert [position for position, _ in faults(parsed)] == [0, 1]


# Lines ---------------------------------------------------------------------

FILE = "sku,location,on_hand\ntee,oslo,5\nmüg,rome,6\n".encode()


@pytest.mark.parametrize("size", [1, 7, 1_000])
@pytest.mark.parametrize("encoding", ["identity", "gzip"])
def test_pieces_may_be_cut_anywhere(size: int, encoding: str) -> None:
    sent = gzip.compress(FILE) if encoding == "gzip" else FILE
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]
    assert read(*pieces, encoding=encoding) == FILE.decode().strip()


@pytest.mark.parametrize(
    "sent",
    [
        b"\xef\xbb\xbf" + FILE,
        FILE.replace(b"\n", b"\r\n"),
        FILE.rstrip(b"\n"),
        FILE.replace(b"\n", b"\r\n").rstrip(b"\n"),
        FILE.replace(b"\n", b"\n\n") + b"\n\n",
        b"\n" + FILE,
    ],
)
def test_byte_order_mark_line_ends_and_blank_lines_make_no_difference(sent: bytes) -> None:
    assert read(sent) == FILE.decode().strip()


def test_several_gzip_members_and_padding_are_one_file() -> None:
    sent = gzip.compress(FILE[:20]) + gzip.compress(FILE[20:]) + b"\0" * 512
    assert read(sent, encoding="gzip") == FILE.decode().strip()


@pytest.mark.parametrize(
    ("sent", "encoding", "sentence"),
    [
        (b"\xff\xfes\0k\0u\0", "identity", "not UTF-8"),
        (FILE, "gzip", "not gzip, or it is damaged"),
        (gzip.compress(FILE)[:-10], "gzip", "cut off"),
        (gzip.compress(FILE)[:-8] + b"\0" * 8, "gzip", "not gzip, or it is damaged"),
        (b"", "gzip", "cut off"),
        (b"x" * (config.MAX_IMPORT_LINE_BYTES + 1) + b"\n", "identity", "longer than 65536"),
        (b"a\n" + b"x" * (config.MAX_IMPORT_LINE_BYTES + 1), "identity", "longer than 65536"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(sent: bytes, encoding: str, sentence: str) -> None:
    with pytest.raises(FileFault, match=sentence):
        read(sent, encoding=encoding)


def test_a_line_may_have_as_many_bytes_as_the_bound() -> None:
    line = b"x" * config.MAX_IMPORT_LINE_BYTES
    assert read(line + b"\n" + line) == (line + b"\n" + line).decode()


def test_a_bomb_is_stopped_by_its_ratio_without_being_unpacked() -> None:
    bomb = zlib.compressobj(9, wbits=31)
    line = b"tee,oslo,5\n" * 100_000
    sent = b"".join(bomb.compress(line) for _ in range(60)) + bomb.flush()
    unpacked: list[int] = []
    with pytest.raises(FileFault, match="over 200 times its size"):
        unpacked.extend(len(block) for block in Lines("gzip").feed(sent))
    bound = max(config.FREE_UNPACKED_BYTES, len(sent) * config.MAX_UNPACKING_RATIO)
    assert sum(unpacked) <= bound < 60 * len(line)


def test_a_file_that_unpacks_to_too_much_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_lines, "MAX_UNPACKED_BYTES", 10)
    with pytest.raises(FileFault, match="unpacks to more than 10 bytes"):
        read(gzip.compress(FILE), encoding="gzip")
