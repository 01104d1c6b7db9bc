"""Snapshots over HTTP: the sender's request checked, the file kept, and its key answered for."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from truestock.flows import imports
from truestock.flows.idempotency import once
from truestock.flows.ingest import allowed_locations, source_ref
from truestock.flows.services import Services
from truestock.ledger.commands import Answer, Token, encode, refusal_answer
from truestock.model.caller import Caller
from truestock.model.facts import instant_fault
from truestock.model.refusal import Code, FieldError, Refusal, field_refusal
from truestock.model.stock import Instant, Name, SourceName


class SnapshotQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`POST /v1/stock/snapshots`: what the file is of."""

    source: SourceName
    as_of: Instant
    scope: Literal["partial", "full"] = "partial"
    locations: Annotated[list[Name], Meta(max_length=10_000)] | None = None
    acknowledged_seq: Annotated[int, Meta(ge=0, le=2**62)] | None = None
    nets_allocations: bool = False


class SnapshotTaken(msgspec.Struct):
    """The file is on disk; the import runs by itself."""

    import_id: str
    status_url: str


class Upload(msgspec.Struct):
    """A file on its way: its format, its encoding and its pieces."""

    format: Literal["csv", "ndjson"]
    encoding: Literal["identity", "gzip"]
    chunks: AsyncIterator[bytes]


class Digest:
    """A body that is hashed while it passes."""

    def __init__(self, start: bytes, chunks: AsyncIterator[bytes]) -> None:
        self._hash = hashlib.blake2b(start, digest_size=16)
        self._chunks = chunks

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece."""
        async for piece in self._chunks:
            self._hash.update(piece)
            yield piece

    def value(self) -> bytes:
        """The hash of what has passed."""
        return self._hash.digest()


async def take_snapshot(
    services: Services, caller: Caller, query: SnapshotQuery, upload: Upload, token: Token | None
) -> Answer:
    """Keep a file and queue its import; a repeated key gets the first import's answer.

    token: its fingerprint covers the request without the file.
    """
    request = await snapshot_request(services, caller, query, upload)
    if isinstance(request, Refusal):
        return refusal_answer(request)
    digest = Digest(token.fingerprint if token else b"", upload.chunks)
    import_id = await imports.receive(services.pool, request, digest.pieces())
    if token is not None:
        # Which request this is can be told only now that the file has been read.
        token = msgspec.structs.replace(token, fingerprint=digest.value())

    async def begin() -> Answer:
        await imports.queue(services.pool, import_id)
        taken = SnapshotTaken(str(import_id), f"/v1/imports/{import_id}")
        return Answer(202, encode(taken))

    answer = await once(services, token, begin)
    if answer.status != 202 or answer.replayed:
        await imports.discard(services.pool, import_id, "The request was answered before.")
    else:
        start_waiting(services)
    return answer


async def snapshot_request(
    services: Services, caller: Caller, query: SnapshotQuery, upload: Upload
) -> imports.SnapshotRequest | Refusal:
    """The request with the ledger's numbers, or why it cannot be taken."""
    if fault := instant_fault(query.as_of, datetime.now(UTC)):
        return field_refusal("/as_of", fault)
    location_ids = None
    if query.locations is not None:
        known = services.reference.locations
        if missing := [name for name in query.locations if name not in known]:
            detail = f"There is no location {missing[0]!r}."
            error = FieldError("/locations", Code.UNKNOWN_LOCATION, detail)
            return Refusal(Code.UNKNOWN_LOCATION, detail, errors=(error,))
        location_ids = [known[name].location_id for name in query.locations]
    source = await source_ref(services, query.source)
    allowed = allowed_locations(services, caller, source)
    return imports.SnapshotRequest(
        source_id=source.source_id,
        source=source.source,
        as_of=query.as_of.astimezone(UTC),
        scope=query.scope,
        location_ids=location_ids,
        allowed_location_ids=None if allowed is None else sorted(allowed),
        format=upload.format,
        encoding=upload.encoding,
        acknowledged_seq=query.acknowledged_seq,
        nets_allocations=query.nets_allocations,
    )


def start_waiting(services: Services) -> None:
    """Run what is queued in this process, now; the timetable sees to what it leaves."""
    task = asyncio.create_task(run_waiting(services), name="imports")
    # A task that nobody holds may be collected while it runs.
    services.tasks.add(task)
    task.add_done_callback(services.tasks.discard)


async def run_waiting(services: Services) -> int:
    """Run what is queued, one import at a time; answers how many ran."""
    async with services.importing:
        on_change = services.availability.imported
        return await imports.run_waiting_imports(services.import_pool, on_change)
