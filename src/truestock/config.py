"""Settings, read once from the environment; every bound of the service has its name here."""

import os
from typing import Annotated, Self

import msgspec
from msgspec import Meta

# Requests of one API key: a second, and at once.
DEFAULT_RATE_LIMIT = 600
DEFAULT_RATE_BURST = 1_200


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the variable and says what it takes."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the environment says, by `TRUESTOCK_<NAME>`.

    database_url, redis_url: addresses of running servers (the embedded ones when absent).
    bootstrap_key: the first key, with every scope; absent, only keys in the database work.
    jobs: whether this process runs the timetable when it leads.
    low_stock: sellable units at or below which a level is `low_stock`.
    rate_limit: requests a second that each API key but the first may send (0: no limit).
    rate_burst: how many of them it may send at once.
    """

    database_url: str
    redis_url: str
    bootstrap_key: str | None = None
    jobs: bool = True
    low_stock: int = 3
    rate_limit: Annotated[int, Meta(ge=0, le=1_000_000)] = DEFAULT_RATE_LIMIT
    rate_burst: Annotated[int, Meta(ge=1, le=1_000_000)] = DEFAULT_RATE_BURST
    pool_size: int = 8
    log_level: str = "info"
    log_format: str = "auto"

    @classmethod
    def from_environment(cls, environ: dict[str, str] | None = None) -> Self:
        """Read the settings; raises ConfigError where one is missing or malformed."""
        found = dict(os.environ if environ is None else environ)
        values = {
            field.name: found[variable]
            for field in msgspec.structs.fields(cls)
            if (variable := f"TRUESTOCK_{field.name.upper()}") in found
        }
        try:
            return msgspec.convert(values, cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigError(f"The environment's TRUESTOCK_ settings: {error}") from error


# Bounds of the write path: what one commit takes, and what waits for it.
WRITER_LANES = 2
MAX_BATCH_COMMANDS = 512
MAX_BATCH_LEVELS = 4_096
MAX_QUEUED_COMMANDS = 8_192
COMMIT_ATTEMPTS = 5
# Seconds that a command may wait for its commit before the caller is told to come again.
COMMAND_TIMEOUT = 15.0

# Bounds of the read side.
MAX_CACHED_LEVELS = 400_000
MAX_CACHED_ITEMS = 200_000
MAX_CACHED_FRAGMENTS = 16
REDIS_TIMEOUT = 0.5

# Bounds of what callers send.
MAX_BODY_BYTES = 4 * 1024 * 1024
MAX_RESERVATION_LINES = 512
MAX_EVENTS = 1_000
MAX_BULK_ENTRIES = 1_000
MAX_QUERY_SKUS = 5_000
MAX_QUERY_LOCATIONS = 100
MAX_TTL_SECONDS = 86_400
DEFAULT_TTL_SECONDS = 600
MAX_QUANTITY = 2_147_483_647
MAX_CLOCK_AHEAD_SECONDS = 300
MAX_PAGE = 1_000
IDEMPOTENCY_HOURS = 48

# Bounds of snapshot imports. Bytes as sent, bytes unpacked, and how many of these one sent byte may
# become (a bomb's mark; small files may be all alike, and are let off).
MAX_IMPORT_BYTES = 1024 * 1024 * 1024
MAX_UNPACKED_BYTES = 4 * 1024 * 1024 * 1024
MAX_UNPACKING_RATIO = 200
FREE_UNPACKED_BYTES = 16 * 1024 * 1024
IMPORT_PIECE_BYTES = 1024 * 1024
MAX_IMPORT_LINE_BYTES = 64 * 1024
# A file's rows are held in memory as numbers, some 60 bytes each while they are sorted.
MAX_IMPORT_ROWS = 5_000_000
MAX_IMPORT_NAMES = 500_000
MAX_IMPORT_ERRORS = 100_000
MAX_ERROR_LINE = 1_000
# What one transaction of an import locks, and how many of them run side by side.
IMPORT_CHUNK_ROWS = 10_000
IMPORT_LANES = 2
# Seconds without a piece after which an upload is taken for dead.
UPLOAD_TIMEOUT = 900
