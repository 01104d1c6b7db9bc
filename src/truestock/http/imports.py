"""Snapshots in, and how their imports go."""

from typing import Any, Literal

from truestock.flows import imports as flow
from truestock.flows.snapshots import SnapshotQuery, SnapshotTaken, Upload, take_snapshot
from truestock.http.endpoint import Call, endpoint
from truestock.http.exchange import Streamed
from truestock.http.problems import refused
from truestock.http.stock import unseen_source
from truestock.ledger.commands import Answer
from truestock.model.caller import Scope
from truestock.model.refusal import Code, Refusal

FORMATS: dict[str, Literal["csv", "ndjson"]] = {
    "text/csv": "csv",
    "application/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/ndjson": "ndjson",
}
ENCODINGS: dict[str, Literal["identity", "gzip"]] = {
    "": "identity",
    "identity": "identity",
    "gzip": "gzip",
    "x-gzip": "gzip",
}


@endpoint(
    "POST",
    "/v1/stock/snapshots",
    Scope.STOCK_WRITE,
    query=SnapshotQuery,
    answer=SnapshotTaken,
    status=202,
    refuses=(Code.NOT_FOUND, Code.UNKNOWN_LOCATION),
    streams_body=True,
    media_types=("text/csv", "application/x-ndjson"),
)
async def take_snapshot_file(call: Call) -> Answer | Refusal:
    """Send a file of counts, streamed; 202 once it is on disk, and the import runs by itself."""
    if refusal := unseen_source(call, call.query.source):
        return refusal
    try:
        return await take_snapshot(
            call.services, call.caller, call.query, upload_of(call), call.token
        )
    except flow.PayloadTooLargeError as error:
        return Refusal(Code.PAYLOAD_TOO_LARGE, str(error))


def upload_of(call: Call) -> Upload:
    """The file with what its headers say of it; raises 415."""
    media_type = (call.exchange.header(b"content-type") or "").partition(";")[0].strip().lower()
    encoding = (call.exchange.header(b"content-encoding") or "").strip().lower()
    if media_type not in FORMATS:
        detail = f"Send text/csv or application/x-ndjson instead of {media_type or 'no type'}."
        raise refused(Code.UNSUPPORTED_MEDIA_TYPE, detail)
    if encoding not in ENCODINGS:
        detail = f"Send the file plain or with Content-Encoding: gzip, not {encoding}."
        raise refused(Code.UNSUPPORTED_MEDIA_TYPE, detail)
    return Upload(FORMATS[media_type], ENCODINGS[encoding], call.exchange.chunks())


@endpoint(
    "GET",
    "/v1/imports/{import_id}",
    Scope.STOCK_WRITE,
    answer=flow.ImportStatus,
    refuses=(Code.NOT_FOUND,),
)
async def get_import(call: Call) -> Any:
    """How an import is doing: its status, and what became of its rows."""
    return await seen_import(call)


@endpoint(
    "GET",
    "/v1/imports/{import_id}/errors",
    Scope.STOCK_WRITE,
    refuses=(Code.NOT_FOUND,),
)
async def get_import_errors(call: Call) -> Streamed | Refusal:
    """What was wrong with which row, as CSV: row, code, detail, line."""
    status = await seen_import(call)
    if isinstance(status, Refusal):
        return status
    return Streamed(
        "text/csv; charset=utf-8", flow.import_errors(call.services.pool, int(status.import_id))
    )


async def seen_import(call: Call) -> flow.ImportStatus | Refusal:
    """The import, if there is one and its source is this caller's business."""
    name = call.path("import_id")
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 19 else 0
    status = await flow.import_status(call.services.pool, number)
    if status is None or not call.caller.sees_source(status.source):
        return Refusal(Code.NOT_FOUND, f"There is no import {name!r}.")
    return status


ENDPOINTS = [take_snapshot_file, get_import, get_import_errors]
