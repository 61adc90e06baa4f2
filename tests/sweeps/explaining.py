"""How PostgreSQL finds the page of a sweep, with the settings of the service's own sessions: plans depend on them."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from bursar.billing.values import Value
from bursar.db.connections import Connection, open_connection
from bursar.sweeps.pages import Window
from bursar.sweeps.table import due_page

PLAN_MODES = ("force_custom_plan", "force_generic_plan")

# Those of `credit_renewal` and `earlybird_warning` have a test of their own, the others one in test_due_pages.py.
INDEX_OF = {
    "credit_renewal": "kiloclaw_renewals_due",
    "resume": "kiloclaw_instances_stopped",
    "trial_expiry": "kiloclaw_trials_due",
    "period_expiry": "kiloclaw_periods_due",
    "destruction": "kiloclaw_destructions_due",
    "past_due": "kiloclaw_dunning_due",
    "destruction_warning": "kiloclaw_destructions_due",
    "trial_warning": "kiloclaw_trials_due",
    "earlybird_warning": "kiloclaw_earlybirds_due",
}


class Explained(Value):
    """A plan as text, and how many pages of the shared buffers its run looked at."""

    plan: str
    buffers: int


async def explained_page(database_url: str, sweep: str, window: Window, mode: str) -> Explained:
    """The sweep's first page, explained instead of answered; `mode` is a `plan_cache_mode`."""
    return await explained(database_url, lambda connection: due_page(connection, sweep, window), mode)


async def explained(database_url: str, ask: Callable[[Any], Awaitable[object]], mode: str) -> Explained:
    """The first query that `ask` makes of the connection it is given, likewise."""
    connection = await open_connection(database_url, name="explaining", plan_cache_mode=mode)
    explaining = _Explaining(connection)
    try:
        with suppress(_Explained):
            await ask(explaining)
    finally:
        await connection.close()
    first = next(line for line in explaining.plan.splitlines() if "Buffers:" in line)
    buffers = sum(int(part.partition("=")[2]) for part in first.split() if part.startswith(("hit=", "read=")))
    return Explained(explaining.plan, buffers)


class _Explained(Exception):
    """There is a plan, and no answer."""


class _Explaining:
    """A connection that explains a prepared query instead of answering it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.plan = ""

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        await self._explain(query, arguments)
        raise _Explained

    async def fetchrow(self, query: str, *arguments: Any) -> Any:
        await self._explain(query, arguments)
        raise _Explained

    async def _explain(self, query: str, arguments: Sequence[Any]) -> None:
        await self._connection.execute(f"PREPARE swept AS {query}")
        literals = ", ".join(map(_literal, arguments))
        rows = await self._connection.fetch(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) EXECUTE swept ({literals})")
        self.plan = "\n".join(row[0] for row in rows)


def _literal(argument: Any) -> str:
    if isinstance(argument, list):
        return f"ARRAY[{', '.join(map(_literal, argument))}]"
    return str(argument) if isinstance(argument, int) else f"'{argument}'"
