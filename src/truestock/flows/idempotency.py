"""Idempotency for requests that do not go through the ledger's door.

The key is claimed before the request runs, so that two processes cannot both run it; the ledger
does the same for its commands inside their own transaction.
"""

from collections.abc import Awaitable, Callable

from truestock.db import SQL
from truestock.flows.services import Services
from truestock.ledger.batch import IN_FLIGHT, replay
from truestock.ledger.commands import Answer, Token, refusal_answer


async def once(
    services: Services, token: Token | None, run: Callable[[], Awaitable[Answer]]
) -> Answer:
    """Run a request, or give its first answer again."""
    if token is None:
        return await run()
    name = (token.key_id, token.idempotency_key)
    if await services.pool.fetchrow(SQL["claim_key"], *name, token.fingerprint) is None:
        rows = await services.pool.fetch(SQL["read_answers"], [name[0]], [name[1]])
        # Claimed a moment ago and given up since: the caller may try again at once.
        return replay(token, rows[0]) if rows else refusal_answer(IN_FLIGHT)
    try:
        answer = await run()
    except BaseException:
        await services.pool.execute(SQL["free_key"], *name)
        raise
    if answer.kept:
        await services.pool.execute(SQL["keep_answer"], answer.status, answer.body, *name)
    else:
        await services.pool.execute(SQL["free_key"], *name)
    return answer
