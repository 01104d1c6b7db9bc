"""How the walk speaks: it makes a real call, shows it with its answer, and checks that."""

import time
from typing import Any

import httpx
import msgspec
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

Json = Any
MAX_SHOWN = 2
INDENT = 3


class StepFailedError(Exception):
    """A step did not give what it should; the message says what it gave."""


class Reply(msgspec.Struct, frozen=True):
    """An answer of the service, and how long it took in milliseconds."""

    status: int
    body: Json
    replayed: bool
    milliseconds: float


class Stage(msgspec.Struct, frozen=True):
    """The walk's client and its console. run: makes this run's references its own."""

    client: httpx.Client
    console: Console
    run: str

    def title(self, number: int, name: str, why: str) -> None:
        """Open a step: its name, and in a sentence what is asked and why."""
        self.console.print()
        self.console.print(Rule(f"[bold]{number}  {name}[/bold]", align="left", style="dim"))
        self.say(why)

    def say(self, text: str) -> None:
        """A sentence."""
        self.line(Text(text))

    def line(self, text: Text, indent: int = INDENT) -> None:
        """Some text, indented as a whole, with nothing behind it."""
        for part in text.wrap(self.console, self.console.width - indent):
            part.rstrip()
            self.console.print(Text(" " * indent).append_text(part), soft_wrap=True)

    def call(
        self,
        method: str,
        path: str,
        body: Json = None,
        *,
        expect: int = 200,
        once: str | None = None,
        show: tuple[str, ...] = (),
    ) -> Json:
        """Make a call, show it and the named fields of its answer, and answer the body.

        once: its Idempotency-Key. Raises StepFailedError where the status is not `expect`.
        """
        self.show_request(method, path, body, once)
        reply = self.send(method, path, body, once)
        self.show_reply(reply, show)
        demand(reply.status == expect, f"should be {expect}, was {reply.status}")
        return reply.body

    def send(self, method: str, path: str, body: Json = None, once: str | None = None) -> Reply:
        """Make a call without a word."""
        headers = {"Idempotency-Key": once} if once else {}
        begun = time.perf_counter()
        try:
            response = self.client.request(method, path, json=body, headers=headers)
        except httpx.TransportError as error:
            raise StepFailedError(f"{method} {path}: {error or type(error).__name__}") from error
        took = (time.perf_counter() - begun) * 1_000
        replayed = response.headers.get("Idempotency-Replayed") == "true"
        try:
            found = response.json()
        except ValueError:
            found = response.text
        return Reply(response.status_code, found, replayed, took)

    def show_request(
        self, method: str, path: str, body: Json = None, once: str | None = None
    ) -> None:
        """A call as it is sent."""
        sent = Text.assemble(("→ ", "cyan"), (method, "bold cyan"), f" {path}")
        if once:
            sent.append(f"   Idempotency-Key: {once}", "dim")
        self.line(sent)
        if body is not None:
            self.line(Text(compact(body), "dim"), INDENT + 2)

    def show_reply(self, reply: Reply, show: tuple[str, ...] = ()) -> None:
        """An answer, shortened to the fields named, wherever they stand in it."""
        well = reply.status < 400
        answer = Text.assemble(
            ("← ", "cyan"), (str(reply.status), "bold green" if well else "bold")
        )
        answer.append(f"  {reply.milliseconds:.1f} ms", "dim")
        if reply.replayed:
            answer.append("   Idempotency-Replayed: true", "dim")
        self.line(answer)
        self.line(Text(compact(shortened(reply.body, show)), "dim"), INDENT + 2)

    def proved(self, said: str) -> None:
        """Something that was checked."""
        self.line(Text.assemble(("✓ ", "green"), said))

    def equal(self, said: str, found: Json, wanted: Json) -> None:
        """Check a figure and say it, where `said` has {}. Raises StepFailedError for another."""
        demand(found == wanted, f"{said.format(wanted)!r} should hold, but it is {found}")
        self.proved(said.format(found))


def demand(held: bool, otherwise: str) -> None:
    """Raise StepFailedError unless it held."""
    if not held:
        raise StepFailedError(otherwise)


def compact(value: Json) -> str:
    """JSON in a line, with room to break it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f'"{name}": {compact(part)}' for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(compact, value)) + "]"
    return "…" if value is ... else msgspec.json.encode(value).decode()


def shortened(value: Json, show: tuple[str, ...]) -> Json:
    """The fields named (all, if none is) and at most MAX_SHOWN entries of a list."""
    if isinstance(value, dict):
        return {
            name: shortened(part, show) for name, part in value.items() if not show or name in show
        }
    if isinstance(value, list):
        some = [shortened(part, show) for part in value[:MAX_SHOWN]]
        return [*some, ...] if len(value) > MAX_SHOWN else some
    return value
