import asyncio
from typing import TYPE_CHECKING

import asyncpg

from bursar.handlers.messages import ReceivedMessage
from bursar.service.broker import topology
from bursar.service.broker.connecting import connect
from bursar.service.broker.publisher import open_publisher
from bursar.service.deciding.decider import DatabaseUnavailable
from tests.service.broker.queues import stripe_message, waiting
from tests.service.broker.working import (
    DEADLINE_SECONDS,
    PARTITIONS,
    RAISING,
    UNREADABLE,
    FakeSweeps,
    Hold,
    Seen,
    Troubled,
    a_decider,
    a_worker,
    published,
    until,
)

if TYPE_CHECKING:
    from bursar.db.items import Outcome


def ids(count: int) -> list[str]:
    return [f"evt_{number}" for number in range(count)]


async def ready(amqp_url: str) -> int:
    connection = await connect(amqp_url, "test")
    async with connection:
        channel = await connection.channel()
        counts = [await waiting(channel, topology.partition_queue(partition)) for partition in range(PARTITIONS)]
    return sum(counts)


async def test_ms_4_messages_of_one_user_are_taken_in_the_brokers_order(amqp_url: str, database_url: str) -> None:
    await published(amqp_url, [stripe_message(number) for number in range(600)])
    seen = Seen()
    async with a_decider(database_url) as decider, a_worker(amqp_url, decider, seen) as worker:
        await until(lambda: len(seen.ids) == 600, seen.changed)
        assert worker.value("lane_batch_size_count") < 100  # in batches
    assert seen.ids == ids(600)
    assert await ready(amqp_url) == 0


async def test_ms_2_nothing_is_acknowledged_before_it_is_committed(amqp_url: str, database_url: str) -> None:
    await published(amqp_url, [stripe_message(number) for number in range(20)])
    seen, before = Seen(), Hold()
    async with a_decider(database_url) as decider, a_worker(amqp_url, Troubled(decider, before), seen) as worker:
        await before.wait()
        worker.task.cancel()
        await asyncio.wait([worker.task])
    assert await ready(amqp_url) == 20


async def test_ms_3_a_crash_between_commit_and_acknowledgement_repeats_no_effect(
    amqp_url: str, database_url: str
) -> None:
    await published(amqp_url, [stripe_message(number) for number in range(20)])
    seen, after = Seen(), Hold()
    async with a_decider(database_url) as decider:
        async with a_worker(amqp_url, Troubled(decider, after=after), seen) as worker:
            await after.wait()
            worker.task.cancel()
            await asyncio.wait([worker.task])
        assert await ready(amqp_url) == 20
        outcomes: list[Outcome] = []
        decider.on_commit(
            lambda committed: outcomes.extend(committed)  # noqa: PLW0108 - `extend` is typed otherwise
        )
        async with a_worker(amqp_url, decider, seen):
            await until(lambda: len(outcomes) == 20)
    assert {outcome.state.value for outcome in outcomes} >= {"duplicate"}
    assert sorted(seen.ids) == sorted(ids(20))


async def test_ms_5_ms_6_what_cannot_be_read_or_decided_is_written_down_and_the_others_go_on(
    amqp_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    bodies = {3: UNREADABLE, 5: RAISING}
    messages = [stripe_message(number, body=bodies.get(number)) for number in range(10)]
    nobodys = stripe_message(10, account="somebody")
    await published(amqp_url, [*messages, nobodys])
    seen = Seen()
    async with a_decider(database_url) as decider, a_worker(amqp_url, decider, seen) as worker:
        await until(lambda: len(seen.ids) == 8, seen.changed)
        await until(lambda: worker.value("lane_messages_total", outcome="unreadable") == 2)
    rows = await connection.fetch("SELECT message_id, state, body FROM parked_messages ORDER BY id")
    assert {(row["message_id"], row["state"]) for row in rows} == {
        ("evt_3", "parked"),
        ("evt_5", "retrying"),
        ("evt_10", "parked"),
    }
    assert await ready(amqp_url) == 0


async def test_ms_6_what_postgres_cannot_store_is_kept_without_it(
    amqp_url: str, database_url: str, connection: asyncpg.Connection
) -> None:
    odd = ReceivedMessage("odd\x00", "t\x00", "user:\x00", b"one", headers={"list": ["\x00", bytearray(b"\xff")]})
    await published(
        amqp_url, [odd, ReceivedMessage("odd2", "stripe.x", "user:" + "u" * 300, b"two"), stripe_message(1)]
    )
    seen = Seen()
    async with a_decider(database_url) as decider, a_worker(amqp_url, decider, seen) as worker:
        await until(lambda: worker.value("lane_messages_total", outcome="unreadable") == 2 and len(seen.ids) == 1)
    rows = await connection.fetch("SELECT message_id, body FROM parked_messages ORDER BY body")
    assert [tuple(row) for row in rows] == [("odd\ufffd", b"one"), ("odd2", b"two")]


async def test_an_unreachable_database_delays_and_loses_nothing(amqp_url: str, database_url: str) -> None:
    await published(amqp_url, [stripe_message(number) for number in range(50)])
    seen, failures = Seen(), iter(range(3))

    async def fail() -> None:
        if next(failures, None) is not None:
            raise DatabaseUnavailable("the database does not answer")

    async with a_decider(database_url) as decider, a_worker(amqp_url, Troubled(decider, fail), seen):
        await until(lambda: len(seen.ids) == 50, seen.changed)
    assert seen.ids == ids(50)
    assert await ready(amqp_url) == 0


async def test_ms_12_a_stop_finishes_the_running_batch_and_gives_the_rest_back(
    amqp_url: str, database_url: str
) -> None:
    await published(amqp_url, [stripe_message(number) for number in range(1000)])
    seen, before = Seen(), Hold()
    async with a_decider(database_url) as decider, a_worker(amqp_url, Troubled(decider, before), seen) as worker:
        await before.wait()
        worker.stop.set()
        before.released.set()
        await asyncio.wait_for(worker.task, DEADLINE_SECONDS)
    assert 0 < len(seen.ids) <= 256
    assert await ready(amqp_url) == 1000 - len(seen.ids)


async def test_ms_8_a_tick_is_noted_and_its_pages_give_way_to_messages(amqp_url: str, database_url: str) -> None:
    seen, sweeps = Seen(), FakeSweeps(pages_left=50)
    async with open_publisher(amqp_url, PARTITIONS) as publisher:
        await publisher.publish(ReceivedMessage("tick:hourly:x:0", "tick", "user:u1", b"{}"))
        await publisher.publish(stripe_message(2))
    async with a_decider(database_url) as decider, a_worker(amqp_url, decider, seen, sweeps=sweeps):
        await until(lambda: len(sweeps.pages) >= 50 and len(seen.ids) == 1)
    assert sweeps.begun == ["tick:hourly:x:0"]
    assert await ready(amqp_url) == 0


async def test_a_page_that_raises_stops_no_message(amqp_url: str, database_url: str) -> None:
    seen, sweeps = Seen(), FakeSweeps(trouble=ZeroDivisionError())
    async with a_decider(database_url) as decider, a_worker(amqp_url, decider, seen, sweeps=sweeps):
        await until(lambda: len(sweeps.pages) > 2)
        await published(amqp_url, [stripe_message(1)])
        await until(lambda: seen.ids == ["evt_1"], seen.changed)
