"""Two real workers, one of which is killed in the middle (MS-2, MS-3, MS-4)."""

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx
import orjson

from bursar.billing.account import partition_of
from bursar.handlers.messages import HANDLED_STRIPE_TYPES, ReceivedMessage, account_of_event
from bursar.service.broker.publisher import MessagePublisher, open_publisher
from bursar.service.broker.sharing import share
from bursar.service.demo.generator import generate_events
from bursar.service.demo.lives import all_events, price_environment
from tests.service.processes.running import environment_of, invoice_paid, running, said, until

USERS, EVENTS = 200, 5_000
PARTITIONS = 32
SENDERS = 50
PROBES = 64
TAKEOVER = timedelta(seconds=10)


def recorded() -> tuple[list[ReceivedMessage], dict[str, str]]:
    """5,000 events of 200 users in the order of their instants, and the prices that they name."""
    lives = generate_events(USERS, EVENTS, seed=7)
    events = sorted(all_events(lives), key=lambda event: (event["created"], event["id"]))
    messages = [
        ReceivedMessage(event["id"], f"stripe.{event['type']}", account, orjson.dumps(event))
        for event in events
        if event["type"] in HANDLED_STRIPE_TYPES and (account := account_of_event(event))
    ]
    return messages, price_environment(lives)


async def publish_all(publisher: MessagePublisher, messages: list[ReceivedMessage]) -> None:
    remaining = iter(messages)

    async def send() -> None:
        for message in remaining:
            await publisher.publish(message)

    await asyncio.gather(*(send() for _ in range(SENDERS)))


async def partitions_of(connection: asyncpg.Connection, process_id: int) -> set[int]:
    """The partitions that the living workers leave to that process."""
    workers = [row["worker_id"] for row in await connection.fetch("SELECT worker_id FROM workers")]
    owners = share(workers, PARTITIONS)
    return {partition for partition, worker in owners.items() if f":{process_id}:" in worker}


async def handled_by(worker_url: str) -> bool:
    """Whether that worker has decided messages itself."""
    async with httpx.AsyncClient(base_url=worker_url) as client:
        metrics = (await client.get("/metrics")).text
    return 'bursar_lane_messages_total{outcome="applied"}' in metrics


async def test_ms_2_ms_3_a_killed_worker_loses_and_doubles_nothing(
    database_url: str, amqp_url: str, connection: asyncpg.Connection
) -> None:
    messages, prices = recorded()
    assert len(messages) > EVENTS / 2

    async def handled() -> int:
        count: int = await connection.fetchval("SELECT count(*) FROM inbox")
        return count

    probes: list[ReceivedMessage] = []

    async def all_of_them() -> bool:
        return await handled() == len(messages) + len(probes)

    environment = environment_of(database_url, amqp_url, **prices)
    async with (
        open_publisher(amqp_url, PARTITIONS) as publisher,
        running("worker", environment) as survivor,
        running("worker", environment) as victim,
    ):
        await said(survivor, "listening")
        reading = asyncio.create_task(read_to_the_end(survivor))
        victim_url = (await said(victim, "listening"))["url"]

        async def both_live() -> bool:
            return len(await partitions_of(connection, victim.pid)) == PARTITIONS // 2

        async def victim_has_its_share() -> bool:
            """Being known is not yet having partitions: the other worker hands them over first."""
            more = [invoice_paid(len(probes) + number, users=PROBES) for number in range(PROBES)]
            probes.extend(more)
            await publish_all(publisher, more)
            return await handled_by(victim_url)

        async def in_the_middle() -> bool:
            return await handled() > len(probes) + len(messages) / 10

        await until(both_live)
        await until(victim_has_its_share)
        publishing = asyncio.create_task(publish_all(publisher, messages))
        await until(in_the_middle)
        victims = await partitions_of(connection, victim.pid)
        victim.kill()
        killed_at = datetime.now(UTC)
        await publishing
        await until(all_of_them)
        survivor.kill()
        await reading

    assert await connection.fetchval("SELECT count(*) FROM parked_messages") == 0
    taken_over_at = await first_handled(connection, messages, victims, killed_at)
    assert taken_over_at - killed_at < TAKEOVER
    doubled = await connection.fetch(
        "SELECT cause, entity_id FROM change_log GROUP BY cause, entity, entity_id HAVING count(*) > 1"
    )
    assert doubled == []


async def read_to_the_end(process: asyncio.subprocess.Process) -> None:
    """Nobody reads its log: a full pipe would stop it."""
    assert process.stderr
    while await process.stderr.read(65_536):
        continue


async def first_handled(
    connection: asyncpg.Connection, messages: list[ReceivedMessage], partitions: set[int], since: datetime
) -> datetime:
    """When the first message of those partitions was decided after that instant."""
    ids = [message.message_id for message in messages if partition_of(message.account, PARTITIONS) in partitions]
    first: datetime | None = await connection.fetchval(
        "SELECT min(received_at) FROM inbox WHERE message_id = ANY($1::text[]) AND received_at > $2", ids, since
    )
    assert first, "the victim had nothing left to do: the kill came too late to prove anything"
    return first
