import random
from string import ascii_letters

import asyncpg

from bursar.db.items import OutcomeState
from tests.db.deciding import a_decider, a_subscription_item

TOO_LONG = "".join(
    random.Random(1).choices(ascii_letters, k=20_000)
)  # which cannot be compressed below an index entry's limit


async def test_ms_5_what_exceeds_a_limit_of_postgres_concerns_its_message_only(
    database_url: str, connection: asyncpg.Connection
) -> None:
    items = [a_subscription_item(f"evt_{user}", user) for user in ("ada", "bob")]
    items.insert(1, a_subscription_item("evt_long", "cyd", id=TOO_LONG))
    async with a_decider(database_url) as decider:
        outcomes = await decider.decide(items)
    assert [outcome.state for outcome in outcomes] == [OutcomeState.APPLIED, OutcomeState.FAILED, OutcomeState.APPLIED]
    assert await connection.fetchval("SELECT message_id FROM parked_messages") == "evt_long"
