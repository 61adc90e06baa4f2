"""What a process needs before it begins, each trouble one sentence that says what to do."""

import pytest

from bursar.db.connections import Connection
from bursar.service.processes.starting import StartError, require_unused, wait_for_broker, wait_for_database


async def test_a_silent_database_stops_the_start() -> None:
    with pytest.raises(StartError, match="DATABASE_URL: PostgreSQL did not answer within 0 s"):
        await wait_for_database("postgresql://u:p@127.0.0.1:9/d", 0.1)


async def test_a_silent_broker_stops_the_start() -> None:
    with pytest.raises(StartError, match="AMQP_URL: RabbitMQ did not answer within 0 s"):
        await wait_for_broker("amqp://u:p@127.0.0.1:9/", 0.1)


async def test_a_database_that_refuses_us_stops_the_start_at_once(database_url: str) -> None:
    with pytest.raises(StartError, match="refused the connection"):
        await wait_for_database(database_url + "_of_nobody", 3600)


async def test_a_broker_that_refuses_us_stops_the_start_at_once(amqp_url: str) -> None:
    with pytest.raises(StartError, match="AMQP_URL: RabbitMQ refused"):
        await wait_for_broker(amqp_url.replace("://", "://nobody:"), 3600)


async def test_servers_that_answer_let_it_start(database_url: str, amqp_url: str) -> None:
    await wait_for_database(database_url)
    await wait_for_broker(amqp_url)


async def test_a_database_in_use_is_not_played_on(database_url: str, connection: Connection) -> None:
    await require_unused(database_url, "the demo")
    await connection.execute("INSERT INTO accounts (key, partition) VALUES ('user:ada', 0)")
    with pytest.raises(StartError, match="in use; the demo needs an empty one"):
        await require_unused(database_url, "the demo")
