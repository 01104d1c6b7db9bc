"""The command: serve, migrate, demo, feed, key and check.

Exit status everywhere: 0 as it should be, 1 a "no" that the command's help names, 2 it could not be
done. What a command needs is imported when it runs, so that `--help` and mistakes answer at once.
"""

import sys

import click

from truestock import __version__
from truestock.cli.books import check
from truestock.cli.demo import demo
from truestock.cli.feed import feed
from truestock.cli.keys import key
from truestock.cli.service import migrate, serve
from truestock.config import ConfigError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="truestock")
def main() -> None:
    """Truestock: real-time inventory and pickup, one ledger over all channels."""


for command in (serve, migrate, demo, feed, key, check):
    main.add_command(command)


def run() -> None:
    """The entry point: settings that cannot be used end in a sentence, not in a traceback."""
    try:
        main(prog_name="truestock")
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
