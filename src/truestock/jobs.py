"""The timetable: what runs by itself, how often, and in one process only.

Nothing's correctness hangs on it. One process leads (an advisory lock on a connection of its own);
where it dies, PostgreSQL frees the lock and another leads.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec
import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from truestock import db
from truestock.db import SQL
from truestock.flows.expire import expire_due
from truestock.flows.relay import make_partitions, relay, tidy
from truestock.flows.services import Services
from truestock.flows.snapshots import run_waiting
from truestock.telemetry import JOBS, describe

log = structlog.get_logger()

LEADER_LOCK = 7_203_116
LEADER_RETRY_SECONDS = 2.0


class Job(msgspec.Struct, frozen=True):
    """A line of the timetable. recorded: each run stands in job_runs, by its slot."""

    name: str
    seconds: float
    run: Callable[[Services], Awaitable[int]]
    recorded: bool = False


TIMETABLE = (
    Job("relay", 0.25, relay),
    Job("expire", 0.5, expire_due),
    Job("imports", 2, run_waiting),
    Job("tidy", 600, tidy, recorded=True),
    Job("make_partitions", 3_600, make_partitions, recorded=True),
)


@asynccontextmanager
async def timetable(services: Services) -> AsyncIterator[None]:
    """Run the timetable for as long as this process leads."""
    task = asyncio.create_task(lead(services), name="jobs-leader")
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def lead(services: Services) -> None:
    """Wait for the lead, run the timetable while it lasts, and begin again."""
    while True:
        try:
            await lead_once(services)
        except Exception as error:
            log.warning("jobs_leader_lost", error=describe(error))
        await asyncio.sleep(LEADER_RETRY_SECONDS)


async def lead_once(services: Services) -> None:
    """Run the timetable if the lead is to be had, until its connection is lost."""
    connection = await db.connect(services.settings.database_url, application_name="truestock-jobs")
    try:
        if not await connection.fetchval(SQL["try_lock"], LEADER_LOCK):
            return
        log.info("jobs_leading", jobs=[job.name for job in TIMETABLE])
        await make_partitions(services)
        scheduler = scheduler_for(services)
        scheduler.start()
        try:
            while True:
                await connection.fetchval(SQL["read_clock"])
                await asyncio.sleep(LEADER_RETRY_SECONDS)
        finally:
            scheduler.shutdown(wait=False)
    finally:
        connection.terminate()


def scheduler_for(services: Services) -> AsyncIOScheduler:
    """A scheduler with every job of the timetable."""
    scheduler = AsyncIOScheduler(
        timezone=UTC,
        job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
    )
    for job in TIMETABLE:
        scheduler.add_job(
            run_job, "interval", args=[services, job], seconds=job.seconds, id=job.name
        )
    return scheduler


async def run_job(services: Services, job: Job) -> None:
    """Run a job at its time; a failure is logged and the next run comes all the same."""
    now = datetime.now(UTC).timestamp()
    slot = datetime.fromtimestamp(now - now % job.seconds, UTC)
    try:
        if job.recorded and not await services.pool.fetch(SQL["claim_slot"], job.name, slot):
            return
        done = await job.run(services)
    except Exception as error:
        JOBS.labels(job.name, "failed").inc()
        log.warning("job_failed", job=job.name, error=describe(error))
        return
    JOBS.labels(job.name, "done").inc()
    if job.recorded:
        await services.pool.execute(SQL["finish_slot"], f"done: {done}", job.name, slot)
