import asyncio

import asyncpg

from bursar.billing.account import partition_of
from bursar.service.broker.keeping import BEATS_BETWEEN_LOOKS, BEATS_UNTIL_SETTLED
from bursar.service.broker.membership import Membership
from bursar.service.broker.topology import routing_key
from bursar.service.deciding.decider import Decider
from tests.service.broker.queues import stripe_message
from tests.service.broker.working import FakeSweeps, Seen, Worker, a_decider, a_worker, published, until

PARTITIONS = 8
ROUND = 40
ROUNDS = 20  # at most, until both worked on their own halves only
LABELS = [routing_key(partition) for partition in range(PARTITIONS)]


def owned(worker: Worker) -> set[int]:
    return {partition for partition in range(PARTITIONS) if worker.membership.owns(partition)}


def round_of_messages(number: int) -> list[str]:
    """Ids of messages, one for each of 40 users, spread over all partitions."""
    return [f"evt_{number * ROUND + user}" for user in range(ROUND)]


async def publish_round(amqp_url: str, number: int) -> None:
    messages = [stripe_message(number * ROUND + user, f"user:u{user}") for user in range(ROUND)]
    await published(amqp_url, messages, PARTITIONS)


def of_partitions(ids: list[str]) -> set[int]:
    return {partition_of(f"user:u{int(one.removeprefix('evt_')) % ROUND}", PARTITIONS) for one in ids}


async def test_ms_4_workers_share_the_partitions_and_one_takes_over_from_the_dead(
    amqp_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    """A late joiner gets its half; after one dies without a word, nothing is lost and nothing done twice."""
    ada_seen, bob_seen = Seen(), Seen()
    async with (
        a_decider(database_url) as decider,
        a_worker(amqp_url, decider, ada_seen, name="ada", partitions=PARTITIONS) as ada,
    ):
        await until(lambda: len(owned(ada)) == PARTITIONS and not ada.lanes.down)
        async with a_worker(amqp_url, decider, bob_seen, name="bob", partitions=PARTITIONS) as bob:
            await until(lambda: len(owned(ada)) == len(owned(bob)) == PARTITIONS // 2)
            rounds = 0
            while of_partitions(bob_seen.ids[-ROUND // 4 :]) != owned(bob) and rounds < ROUNDS:
                await publish_round(amqp_url, rounds)
                rounds += 1
                wanted = rounds * ROUND
                await until(lambda: len(ada_seen.ids) + len(bob_seen.ids) == wanted)  # noqa: B023 - within the round
            assert of_partitions(bob_seen.ids) == owned(bob)
            bob.task.cancel()
            await publish_round(amqp_url, rounds)
            rounds += 1
            await until(lambda: len(ada_seen.ids) + len(bob_seen.ids) >= rounds * ROUND)
    everything = [one for number in range(rounds) for one in round_of_messages(number)]
    assert sorted(ada_seen.ids + bob_seen.ids) == sorted(everything)
    assert await connection.fetchval("SELECT count(*) FROM inbox") == len(everything)


class SlowToSubscribe(Membership):
    """Of a worker that the others know a while before it stands in line."""

    def __init__(self, database: Decider, worker_id: str) -> None:
        super().__init__(database, worker_id, PARTITIONS)
        self.may_subscribe = asyncio.Event()

    async def join(self) -> None:
        await super().join()
        await self.may_subscribe.wait()


async def test_kc_80_an_owner_looks_now_and_then_whether_a_tick_is_under_way(amqp_url: str, database_url: str) -> None:
    """Whoever had the partition before may have begun it, and was told to let go in the midst of it."""
    sweeps = FakeSweeps()
    async with (
        a_decider(database_url) as decider,
        a_worker(amqp_url, decider, Seen(), partitions=PARTITIONS, sweeps=sweeps) as worker,
    ):
        await until(lambda: set(sweeps.pages) == owned(worker))  # as it subscribed
        sweeps.pages.clear()
        for _ in range(BEATS_BETWEEN_LOOKS):
            await worker.membership.beat()
        await until(lambda: set(sweeps.pages) == owned(worker))


async def test_ms_4_an_owner_that_is_late_in_line_gets_its_partitions_all_the_same(
    amqp_url: str, database_url: str
) -> None:
    """The one before it has been standing in line again by then, first, and is given everything."""
    ada_seen, bob_seen = Seen(), Seen()
    async with (
        a_decider(database_url) as decider,
        a_worker(amqp_url, decider, ada_seen, name="ada", partitions=PARTITIONS) as ada,
    ):
        await until(lambda: len(owned(ada)) == PARTITIONS and not ada.lanes.down)
        slow = SlowToSubscribe(decider, "bob")
        async with a_worker(amqp_url, decider, bob_seen, partitions=PARTITIONS, membership=slow) as bob:
            await until(lambda: len(owned(ada)) == PARTITIONS // 2)
            await publish_round(amqp_url, 0)
            await until(lambda: len(ada_seen.ids) == ROUND)
            slow.may_subscribe.set()
            await until(lambda: all(bob.value("lane_up", partition=label) for label in LABELS))
            for number in range(1, BEATS_UNTIL_SETTLED + 1):
                await publish_round(amqp_url, number)
                wanted = (number + 1) * ROUND
                await until(lambda: len(ada_seen.ids) + len(bob_seen.ids) == wanted)  # noqa: B023 - within the round
                await ada.membership.beat()
            bobs, adas = len(bob_seen.ids), len(ada_seen.ids)
            await publish_round(amqp_url, number + 1)
            await until(lambda: len(ada_seen.ids) + len(bob_seen.ids) == wanted + ROUND)
            assert of_partitions(bob_seen.ids[bobs:]) == owned(bob)
            assert of_partitions(ada_seen.ids[adas:]) == owned(ada)
