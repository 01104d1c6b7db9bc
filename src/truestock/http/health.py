"""Health and metrics: for load balancers, orchestrators and Prometheus."""

import asyncio

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from truestock import __version__
from truestock.db import SQL
from truestock.flows.services import Services
from truestock.http.endpoint import Call, endpoint
from truestock.ledger.commands import Answer, encode
from truestock.model.health import Live, Ready, State

CHECK_SECONDS = 2.0


@endpoint("GET", "/health/live", None, answer=Live)
async def live(_: Call) -> Live:
    """The process runs; nothing else is asked."""
    return Live("ok", __version__)


@endpoint("GET", "/health/ready", None, answer=Ready)
async def ready(call: Call) -> Answer:
    """Whether requests can be served: 503 when PostgreSQL or the ledger does not answer."""
    postgresql, redis = await asyncio.gather(
        postgresql_state(call.services), redis_state(call.services)
    )
    ledger: State = "ok" if call.services.ledger.connected else "failing"
    well = postgresql == ledger == "ok"
    states = {"postgresql": postgresql, "redis": redis, "ledger": ledger}
    return Answer(200 if well else 503, encode(Ready("ok" if well else "failing", states)))


async def postgresql_state(services: Services) -> State:
    """Whether PostgreSQL answers."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await services.pool.fetchval(SQL["read_clock"])
    except Exception:
        return "failing"
    return "ok"


async def redis_state(services: Services) -> State:
    """Whether Redis answers."""
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await services.availability.projection.ping()
    except Exception:
        return "failing"
    return "ok"


@endpoint("GET", "/metrics", None, answers="text/plain")
async def metrics(_: Call) -> Answer:
    """What Prometheus scrapes."""
    return Answer(200, generate_latest(), media_type=CONTENT_TYPE_LATEST)


ENDPOINTS = [live, ready, metrics]
