import asyncio

import pytest

from bursar.service.broker.lanes import BrokerLost
from bursar.service.processes.supervision import supervise
from tests.service.broker.proxy import proxied
from tests.service.broker.queues import stripe_message
from tests.service.broker.working import DEADLINE_SECONDS, Seen, a_decider, a_worker, published, until


async def test_a_lost_broker_ends_the_lanes_and_started_again_they_go_on(amqp_url: str, database_url: str) -> None:
    seen = Seen()
    async with (
        proxied(amqp_url) as (url, proxy),
        a_decider(database_url) as decider,
        a_worker(url, decider, seen) as worker,
    ):
        await published(amqp_url, [stripe_message(1)])
        await until(lambda: len(seen.ids) == 1, seen.changed)
        proxy.cut()
        with pytest.raises(BrokerLost):
            await asyncio.wait_for(worker.task, DEADLINE_SECONDS)
        assert len(worker.lanes.down) == len(worker.lanes.states)

        supervised = asyncio.create_task(supervise("lanes", worker.lanes.run, worker.stop))
        await published(amqp_url, [stripe_message(2)])
        await until(lambda: len(seen.ids) == 2, seen.changed)
        assert worker.lanes.down == []
        proxy.cut()
        await published(amqp_url, [stripe_message(3)])
        await until(lambda: len(seen.ids) == 3, seen.changed)
        worker.stop.set()
        await asyncio.wait_for(supervised, DEADLINE_SECONDS)
    assert seen.ids == ["evt_1", "evt_2", "evt_3"]
