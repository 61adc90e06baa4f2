"""Both clocks, in the simulation's hand."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from bursar.db.connections import Connection
from bursar.db.items import Situation


@dataclass(slots=True)
class SimulatedClock:
    """Business and real time move together here; a jump of business time alone is a fault."""

    now: datetime
    real_now: datetime

    async def situation(self, connection: Connection) -> Situation:  # noqa: ARG002 - needs no database
        """Both instants as they stand."""
        return Situation(self.now, self.real_now)

    def real(self) -> datetime:
        """Real time alone."""
        return self.real_now

    def pass_time(self, duration: timedelta) -> None:
        """Let both go on."""
        self.now += duration
        self.real_now += duration
