"""The ASGI application: routes, errors and the services' lifetime."""

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from litestar import Litestar
from litestar.exceptions import HTTPException

from truestock import db
from truestock.config import Settings
from truestock.flows.keys import ensure_bootstrap_key
from truestock.flows.services import open_services
from truestock.http import (
    availability,
    catalogue,
    health,
    imports,
    keys,
    orders,
    reservations,
    schema,
    stock,
)
from truestock.http.limits import open_limits
from truestock.http.problems import on_fault, on_http_exception
from truestock.http.routing import Routes, in_front_of
from truestock.jobs import timetable
from truestock.telemetry import configure_logging

ENDPOINTS = [
    each
    for module in (availability, reservations, orders, stock, imports, catalogue, keys, health)
    for each in module.ENDPOINTS
]


def create_app(settings: Settings | None = None) -> Litestar:
    """The application; without settings they come from the environment."""
    chosen = settings or Settings.from_environment()
    configure_logging(chosen.log_level, chosen.log_format)

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncIterator[None]:
        await db.migrate(chosen.database_url)
        async with AsyncExitStack() as stack:
            services = await stack.enter_async_context(open_services(chosen))
            await ensure_bootstrap_key(services.pool, chosen.bootstrap_key)
            app.state["services"] = services
            spare_collections()
            app.state["limits"] = await stack.enter_async_context(open_limits(chosen))
            if chosen.jobs:
                await stack.enter_async_context(timetable(services))
            yield

    app = Litestar(
        lifespan=[lifespan],
        openapi_config=None,
        exception_handlers={
            HTTPException: on_http_exception,
            Exception: on_fault,
        },
        logging_config=None,
    )
    routes = Routes([*ENDPOINTS, *schema.endpoints_for(ENDPOINTS)])
    app.asgi_handler = in_front_of(app.asgi_handler, routes)
    return app


def spare_collections() -> None:
    """Let Python's collector pass over what stays for good, and look for cycles less often.

    Requests make many small objects and hardly a cycle; by default a collection comes every few
    of them, and each full one walks all items and levels in memory.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
