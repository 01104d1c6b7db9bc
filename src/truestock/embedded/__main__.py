"""Keep the servers of a data folder running until SIGTERM or SIGINT."""

import signal
import sys
import time
from pathlib import Path

import msgspec

from truestock.embedded import embedded_servers
from truestock.telemetry import configure_logging


def main() -> None:
    """Run the servers; their addresses go to stdout in a line of JSON, what happens to stderr."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m truestock.embedded DATA_DIR")
    configure_logging("info", "auto")
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: sys.exit(0))
    with embedded_servers(Path(sys.argv[1])) as servers:
        sys.stdout.write(msgspec.json.encode(servers).decode() + "\n")
        sys.stdout.flush()
        # signal.pause() would sleep on if the machine gave the signal to another thread.
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main()
