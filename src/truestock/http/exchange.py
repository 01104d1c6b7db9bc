"""One HTTP exchange, as near to the server as can be: what is read of a request, and sent."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
from litestar.types import Receive, Send

from truestock.config import MAX_BODY_BYTES
from truestock.http.problems import JSON, PROBLEM_JSON, refused
from truestock.ledger.commands import Answer
from truestock.model.refusal import Code


class Streamed(msgspec.Struct):
    """An answer that is made while it is sent."""

    media_type: str
    chunks: AsyncIterator[bytes]


NO_HEADERS: dict[str, str] = {}


class Exchange:
    """A request that is read once and answered once."""

    __slots__ = (
        "headers",
        "method",
        "path",
        "path_params",
        "query_string",
        "receive",
        "scope",
        "send",
    )

    def __init__(
        self, scope: Any, receive: Receive, send: Send, path_params: dict[str, str]
    ) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.method: str = self.scope["method"]
        self.path: str = self.scope["path"]
        self.query_string: bytes = self.scope["query_string"]
        self.path_params = path_params
        # What the answer says beside what the endpoint has it say.
        self.headers = NO_HEADERS

    def header(self, name: bytes) -> str | None:
        """A header by its lower-case name, None if it was not sent."""
        for found, value in self.scope["headers"]:
            if found == name:
                return str(value.decode("latin-1"))
        return None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in the pieces that it comes in; ends early if the caller goes away."""
        while True:
            message: Any = await self.receive()
            if message["type"] == "http.disconnect":
                raise ConnectionAbortedError("the caller went away while sending")
            if body := message.get("body"):
                yield body
            if not message.get("more_body"):
                return

    async def body(self) -> bytes:
        """The whole body; raises 413 where it is over MAX_BODY_BYTES."""
        declared = self.header(b"content-length")
        if declared is not None and declared.isdecimal() and int(declared) > MAX_BODY_BYTES:
            raise too_large()
        parts = []
        size = 0
        async for part in self.chunks():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise too_large()
            parts.append(part)
        # Nearly every body comes in one piece.
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def reply(self, answer: Answer) -> None:
        """Send an answer."""
        body = answer.body
        media_type = answer.media_type or (JSON if answer.status < 400 else PROBLEM_JSON)
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", b"%d" % len(body)),
        ]
        headers += [
            (name.encode(), value.encode())
            for name, value in headers_of(answer, self.headers).items()
        ]
        status: Any = {"type": "http.response.start", "status": answer.status, "headers": headers}
        await self.send(status)
        content: Any = {"type": "http.response.body", "body": b"" if self.is_head else body}
        await self.send(content)

    @property
    def is_head(self) -> bool:
        """Whether the headers alone are wanted."""
        return self.method == "HEAD"

    async def stream(self, streamed: Streamed) -> None:
        """Send an answer while it is being made."""
        headers = [(b"content-type", streamed.media_type.encode())]
        headers += [(name.encode(), value.encode()) for name, value in self.headers.items()]
        status: Any = {"type": "http.response.start", "status": 200, "headers": headers}
        await self.send(status)
        async for chunk in streamed.chunks:
            part: Any = {"type": "http.response.body", "body": chunk, "more_body": True}
            await self.send(part)
        end: Any = {"type": "http.response.body", "body": b""}
        await self.send(end)


def headers_of(answer: Answer, more: dict[str, str]) -> dict[str, str]:
    """What an answer says beside its body."""
    headers = answer.headers | more
    if answer.replayed:
        headers["idempotency-replayed"] = "true"
    if answer.retry_after is not None:
        headers["retry-after"] = str(answer.retry_after)
    if answer.status == 401:
        headers["www-authenticate"] = 'Bearer realm="truestock"'
    return headers


def too_large() -> Exception:
    """The body is over the bound."""
    detail = f"The body is over {MAX_BODY_BYTES} bytes: send less at once."
    return refused(Code.PAYLOAD_TOO_LARGE, detail)
