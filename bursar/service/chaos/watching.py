"""Looks at the inbox all along: how long nothing moved, and when the service had recovered from each disturbance."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field

import asyncpg
from tenacity import AsyncRetrying, RetryError, retry_if_result, stop_after_delay, wait_fixed

from bursar.service.chaos.delivery import Deliveries
from bursar.service.deciding.decider import UNAVAILABLE
from bursar.service.processes.supervision import wait_or_stop

LOOK_SECONDS = 0.2
ANSWER_SECONDS = 2.0
SETTLE_SECONDS = 5.0


@dataclass(slots=True)
class Disturbed:
    """One disturbance that took place. Instants are seconds of the monotonic clock.

    Recovered once what was accepted before its end is handled and a webhook was accepted after it.
    """

    kind: str
    target: str
    began_at: float
    over_at: float = 0.0
    recovered_at: float | None = None

    @property
    def recovery_seconds(self) -> float | None:
        return None if self.recovered_at is None else self.recovered_at - self.over_at


@dataclass(slots=True)
class Watch:
    """`longest_still_seconds`: the longest time in which an accepted event waited and none was handled."""

    database_url: str = field(repr=False)
    deliveries: Deliveries
    disturbed: list[Disturbed] = field(default_factory=list)
    handled: set[str] = field(default_factory=set)
    longest_still_seconds: float = 0.0
    _moved_at: float = field(default_factory=time.monotonic)

    async def run(self, stop: asyncio.Event) -> None:
        """Until told to stop; connects again whenever the database was away."""
        while not stop.is_set():
            with suppress(*UNAVAILABLE):
                connection = await asyncpg.connect(
                    self.database_url, timeout=ANSWER_SECONDS, command_timeout=ANSWER_SECONDS
                )
                try:
                    while not await wait_or_stop(stop, LOOK_SECONDS):
                        await self.look(connection)
                finally:
                    connection.terminate()
            await wait_or_stop(stop, LOOK_SECONDS)

    async def settle(self) -> None:
        """Return once all accepted is handled and every recovery noted, or after some seconds without that."""
        with suppress(RetryError):
            await AsyncRetrying(
                retry=retry_if_result(lambda settled: not settled),
                wait=wait_fixed(LOOK_SECONDS),
                stop=stop_after_delay(SETTLE_SECONDS),
            )(self._is_settled)

    async def _is_settled(self) -> bool:
        waiting = self.deliveries.accepted_at.keys() - self.handled
        return not waiting and all(one.recovered_at is not None for one in self.disturbed)

    async def look(self, connection: asyncpg.Connection) -> None:
        """What was handled since the last look."""
        waiting = self.deliveries.accepted_at.keys() - self.handled
        rows = await connection.fetch(
            "SELECT message_id FROM inbox WHERE message_id = ANY($1::text[])", sorted(waiting)
        )
        now = time.monotonic()
        if rows or not waiting:
            self.longest_still_seconds = max(self.longest_still_seconds, now - self._moved_at)
            self._moved_at = now
        self.handled |= {row["message_id"] for row in rows}
        self._note_recoveries(now)

    def _note_recoveries(self, now: float) -> None:
        oldest = min(
            (at for event_id, at in self.deliveries.accepted_at.items() if event_id not in self.handled), default=now
        )
        for one in self.disturbed:
            is_open = one.recovered_at is None and one.over_at
            takes_again = self.deliveries.ended or self.deliveries.last_accepted_at > one.over_at
            if is_open and takes_again and oldest > one.over_at:
                one.recovered_at = now
