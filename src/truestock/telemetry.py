"""Logs and metrics: what operators see of a running service."""

import logging
import sys

import structlog
from prometheus_client import Counter, Gauge, Histogram

COMMITS = Counter("truestock_ledger_commits_total", "Batches that the writer committed")
COMMANDS = Counter("truestock_ledger_commands_total", "Commands decided", ["kind", "outcome"])
BATCH_SIZE = Histogram(
    "truestock_ledger_batch_commands",
    "Commands in a batch",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
QUEUE = Gauge("truestock_ledger_queue_commands", "Commands that wait for the writer")
READS = Counter(
    "truestock_availability_reads_total", "Items read, by where they were found", ["at"]
)
RELAYED = Counter("truestock_relay_rows_total", "Outbox rows that the relay passed on")
JOBS = Counter("truestock_job_runs_total", "Runs of the timetable", ["job", "outcome"])


def configure_logging(level: str, style: str) -> None:
    """Log lines to stderr: JSON for machines, colours at a terminal (`auto` decides)."""
    human = style == "console" or (style == "auto" and sys.stderr.isatty())
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelNamesMapping()[level.upper()]
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def describe(error: BaseException) -> str:
    """An error in a line, for a log: its kind and its words, never a connection's address."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
