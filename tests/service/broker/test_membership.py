from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg

from bursar.service.broker.membership import Membership
from tests.service.broker.working import a_decider

AT = datetime(2026, 3, 1, tzinfo=UTC)


@dataclass
class StandingTime:
    """Real time that the test moves."""

    now: datetime = AT

    def __call__(self) -> datetime:
        return self.now


def owned(membership: Membership) -> set[int]:
    return {partition for partition in range(32) if membership.owns(partition)}


async def test_two_workers_share_evenly_and_take_over_when_one_dies(database_url: str) -> None:
    time = StandingTime()
    async with a_decider(database_url) as decider:
        ada, bob = (Membership(decider, name, 32, clock=time) for name in ("ada", "bob"))
        await ada.join()
        assert owned(ada) == set(range(32))
        await bob.join()
        await ada.beat()
        assert len(owned(ada)) == len(owned(bob)) == 16
        assert owned(ada) | owned(bob) == set(range(32))

        time.now += timedelta(seconds=5.1)
        changes: list[tuple[frozenset[int], frozenset[int]]] = []
        ada.on_change(lambda lost, gained: changes.append((lost, gained)))
        bobs = owned(bob)
        await ada.beat()
        assert changes == [(frozenset(), frozenset(bobs))]
        assert owned(ada) == set(range(32))


async def test_a_worker_that_connects_anew_is_let_to_the_front_again(database_url: str) -> None:
    time = StandingTime()
    async with a_decider(database_url) as decider:
        ada, bob = (Membership(decider, name, 32, clock=time) for name in ("ada", "bob"))
        await ada.join()
        await bob.join()
        await ada.beat()
        changes: list[frozenset[int]] = []
        ada.on_change(lambda lost, _: changes.append(lost))
        time.now += timedelta(seconds=1)
        await bob.join()
        await ada.beat()
        assert changes == [frozenset(owned(bob))]


async def test_leaving_is_noticed_at_once_and_the_long_dead_are_forgotten(
    database_url: str, connection: asyncpg.Connection
) -> None:
    time = StandingTime()
    async with a_decider(database_url) as decider:
        ada, bob, cyd = (Membership(decider, name, 32, clock=time) for name in ("ada", "bob", "cyd"))
        for worker in (ada, bob, cyd):
            await worker.join()
        await bob.leave()
        await ada.beat()
        assert len(owned(ada)) == 16
        time.now += timedelta(seconds=61)
        await ada.beat()
    assert [row["worker_id"] for row in await connection.fetch("SELECT worker_id FROM workers")] == ["ada"]
