"""A snapshot file's bytes as lines: pieces are unpacked and cut into blocks of whole lines."""

import zlib
from collections.abc import Iterator

import numpy as np

from truestock.config import (
    FREE_UNPACKED_BYTES,
    MAX_IMPORT_LINE_BYTES,
    MAX_UNPACKED_BYTES,
    MAX_UNPACKING_RATIO,
)

LONG_LINE = f"A line is longer than {MAX_IMPORT_LINE_BYTES} bytes."
# Blocks whose fields stay in the processor's cache are parsed in half the time.
BLOCK_BYTES = 128 * 1024
# What makes zlib expect gzip's header and trailer around the largest window.
WINDOW_GZIP = 31


class FileFault(Exception):
    """The file as a whole cannot be read; the message says why, for its sender."""


class Lines:
    """Unpacks a file that comes in pieces, and cuts it into blocks of whole lines."""

    def __init__(self, encoding: str) -> None:
        self._unpacker = zlib.decompressobj(WINDOW_GZIP) if encoding == "gzip" else None
        self._received = self._unpacked = 0
        self._tail = b""
        self._first = True

    def feed(self, piece: bytes) -> Iterator[str]:
        """The blocks that a piece completes. Raises FileFault."""
        self._received += len(piece)
        for unpacked in self._unpack(piece) if self._unpacker else slices(piece):
            whole, newline, rest = (self._tail + unpacked).rpartition(b"\n")
            self._tail = rest
            if len(rest) > MAX_IMPORT_LINE_BYTES:
                raise FileFault(LONG_LINE)
            if newline:
                yield from self._block(whole)

    def close(self) -> Iterator[str]:
        """The last line, if no newline ends it. Raises FileFault where the file is cut off."""
        if self._unpacker and not self._unpacker.eof:
            raise FileFault("The gzip file is cut off: its end is missing.")
        if self._tail:
            yield from self._block(self._tail)

    def _unpack(self, piece: bytes) -> Iterator[bytes]:
        """A piece unpacked, in bounded steps; a file may be several gzip members in a row."""
        while piece:
            assert self._unpacker is not None
            if self._unpacker.eof:
                # Some writers fill up the last tape block with zeros.
                if not (piece := piece.lstrip(b"\0")):
                    return
                self._unpacker = zlib.decompressobj(WINDOW_GZIP)
            try:
                unpacked = self._unpacker.decompress(piece, BLOCK_BYTES)
            except zlib.error as error:
                raise FileFault(f"The file is not gzip, or it is damaged: {error}.") from error
            piece = self._unpacker.unconsumed_tail or self._unpacker.unused_data
            self._unpacked += len(unpacked)
            self._check_bomb()
            yield unpacked

    def _check_bomb(self) -> None:
        if self._unpacked > MAX_UNPACKED_BYTES:
            raise FileFault(f"The file unpacks to more than {MAX_UNPACKED_BYTES} bytes: split it.")
        allowed = self._received * MAX_UNPACKING_RATIO
        if self._unpacked > max(allowed, FREE_UNPACKED_BYTES):
            raise FileFault(f"The file unpacks to over {MAX_UNPACKING_RATIO} times its size.")

    def _block(self, lines: bytes) -> Iterator[str]:
        """Lines that say something as text, without a byte order mark, with plain newlines."""
        newlines = np.flatnonzero(np.frombuffer(lines, np.uint8) == ord("\n"))
        edges = np.concatenate(([-1], newlines, [len(lines)]))
        if np.diff(edges).max() > MAX_IMPORT_LINE_BYTES + 1:
            raise FileFault(LONG_LINE)
        try:
            text = lines.decode("utf-8-sig" if self._first else "utf-8")
        except UnicodeDecodeError as error:
            raise FileFault("The file is not UTF-8 text.") from error
        self._first = False
        if "\r" in text:
            text = text.replace("\r\n", "\n").removesuffix("\r")
        if text := without_blank_lines(text):
            yield text


def slices(piece: bytes) -> Iterator[bytes]:
    """A piece in steps of BLOCK_BYTES."""
    for start in range(0, len(piece), BLOCK_BYTES):
        yield piece[start : start + BLOCK_BYTES]


def without_blank_lines(block: str) -> str:
    """A block's lines that say something; only these are numbered."""
    if "\n\n" not in block and not block.startswith("\n") and not block.endswith("\n"):
        return block
    return "\n".join(line for line in block.split("\n") if line)
