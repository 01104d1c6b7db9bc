"""`demo`: the service with a made-up retailer, and a walk through its main job."""

import os
import sys
from pathlib import Path

import click

from truestock.cli.servers import CannotError, data_dir_option, end_cleanly, servers


@click.command()
@data_dir_option
@click.option("--port", type=click.IntRange(1, 65535), help="Default: 8000, or a free one.")
@click.option("--stores", default=120, show_default=True, type=click.IntRange(3, 2_000))
@click.option("--items", default=2_000, show_default=True, type=click.IntRange(30, 50_000))
def demo(data_dir: Path, port: int | None, stores: int, items: int) -> None:
    """Start everything and show what it is for.

    It loads a made-up retailer, walks through the main job with real calls, and goes on serving
    until Ctrl-C; with DEMO_ONCE=1 it ends after the walk. What was loaded stays in the data folder
    and is found again. Exit status 1: a step of the walk did not give what it should; 2: the demo
    could not start.
    """
    from truestock.demo.child import DemoError
    from truestock.demo.load import Size
    from truestock.demo.show import open_console, show
    from truestock.feed import FeedError

    end_cleanly()
    console = open_console()
    once = os.environ.get("DEMO_ONCE", "") not in ("", "0")
    console.print("[bold]Truestock[/bold]: starting PostgreSQL, Redis and the service.")
    try:
        with servers(data_dir):
            well = show(console, data_dir / "demo", port, Size(stores, items), once=once)
    except (DemoError, FeedError) as error:
        raise CannotError(str(error)) from error
    sys.exit(0 if well else 1)
