"""The demo from its start to its end: service, retailer, walk, and what to try next."""

import os
import secrets
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from truestock.demo.child import Service, kept_key, running_service
from truestock.demo.load import Size, load_once
from truestock.demo.stage import Stage, compact
from truestock.demo.steps import Cast
from truestock.demo.walk import STEPS, walk
from truestock.feed import open_client

WIDTH = 100
BOOTSTRAP = "TRUESTOCK_BOOTSTRAP_KEY"


def open_console() -> Console:
    """A console of a calm width; where nobody looks, it writes plain text."""
    console = Console(highlight=False)
    if not console.is_terminal or console.width > WIDTH:
        console.width = WIDTH
    return console


def show(console: Console, folder: Path, port: int | None, size: Size, *, once: bool) -> bool:
    """Run the demo; answers whether every step of the walk gave what it should.

    The servers run, and the environment names them. Unless it is to end at `once`, it serves until
    Ctrl-C. Raises DemoError or FeedError where there is nothing to show.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = os.environ.setdefault(BOOTSTRAP, kept_key(folder / "bootstrap-key"))
    with running_service(folder, port) as service, open_client(service.url, key) as client:
        console.print(f"The service answers at [bold]{service.url}[/bold].")
        load_once(client, folder, size, console)
        cast, failure = walk(Stage(client, console, f"demo-{secrets.token_hex(4)}"))
        console.print()
        well = f"[bold green]✓[/bold green] All {len(STEPS)} steps gave what they should."
        console.print(f"[bold red]✗[/bold red] {escape(failure)}" if failure else well)
        if not once:
            invite(console, service, key, cast)
            with suppress(KeyboardInterrupt):
                service.wait()
            console.print("\nStopping: the service first, then its servers.")
    return not failure


def invite(console: Console, service: Service, key: str, cast: Cast | None) -> None:
    """Addresses and lines to try; they are not broken, so that they can be copied."""
    url = service.url
    console.print(f"[bold]Try it[/bold]: the service goes on at {url} until Ctrl-C.")
    for about, line in to_try(url, key, cast, service.log.parent.parent):
        console.print(Text(f"  # {about}", "dim"))
        console.print(Text(f"  {line}"), soft_wrap=True)
    last = f"Every endpoint: {url}/schema. The service's log: {service.log}."
    console.print(Text(last, "dim"), soft_wrap=True)


def to_try(url: str, key: str, cast: Cast | None, data_dir: Path) -> list[tuple[str, str]]:
    """What can be tried, and the line that does it."""
    with_key = 'curl -s -H "Authorization: Bearer $TRUESTOCK_KEY"'
    lines = [
        ("A key with every scope, for this demo alone", f"export TRUESTOCK_KEY={key}"),
        ("Is it well?", f"curl -s {url}/health/ready"),
        ("When was each system heard, and what became of it?", f"{with_key} {url}/v1/sources"),
    ]
    if cast:
        cart = {"line_id": "1", "sku": cast.sku, "quantity": 1, "location": cast.store}
        body = compact({"reference": "my-cart", "channel": "web", "lines": [cart]})
        as_json = f"-H 'Content-Type: application/json' -d '{body}'"
        here = f"sku={cast.sku}&location={cast.store}"
        lines += [
            ("Where can I have it?", f"{with_key} {url}/v1/availability/{cast.sku}"),
            ("Hold one for a cart", f"{with_key} {as_json} {url}/v1/reservations"),
            ("Why is it this figure?", f"{with_key} '{url}/v1/ledger/movements?{here}'"),
        ]
    program = sys.argv[0] if Path(sys.argv[0]).name == "truestock" else "truestock"
    prove = [program, "check", "--data-dir", str(data_dir)]
    return [*lines, ("Do the books agree?", shlex.join(prove))]
