"""A tick only asks for a check, once, on one partition: it waits for no call to Stripe (MS-5, MS-9)."""

import pytest

from bursar.service.ticks.paging import HOUSE_PARTITION, Sweeping
from tests.billing.kiloclaw.making import CATALOGUE
from tests.db.deciding import a_decider
from tests.service.partition_ticks import PARTITION, tick_message


@pytest.mark.parametrize("plan", ["gap_check", "hourly"])
async def test_ms_9_a_tick_asks_for_the_check_once(database_url: str, plan: str) -> None:
    async with a_decider(database_url) as decider, decider.pool.acquire() as connection:
        sweeps = Sweeping(decider, CATALOGUE)
        for partition in (HOUSE_PARTITION, PARTITION):
            await sweeps.begin(tick_message(plan, partition=partition))
            while await sweeps.page(partition):
                pass
        asked = await connection.fetch("SELECT key, account_key, asked, payload FROM steps WHERE kind = 'gap_check'")
        assert [tuple(step) for step in asked] == [
            ("check:gap_check", "system:gap_check", 1, {"tick_id": 1, "plan": plan})
        ]
        counts = await connection.fetch("SELECT state, counts->'gap_check' FROM tick_partitions ORDER BY partition")
        assert [tuple(row) for row in counts] == [("done", {"asked": 1}), ("done", None)]
