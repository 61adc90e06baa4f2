from bursar.billing.errors import Retryable
from bursar.billing.values import replace
from bursar.db.connections import Connection
from bursar.handlers.users import adopting, customer_item, profile_item
from bursar.service.deciding.decider import Decider
from tests.db.deciding import REAL_NOW, a_decider, a_subscription_item

EARLY = replace(a_subscription_item("evt_1"), key="customer:cus_ada")


async def register(decider: Decider) -> None:
    profile = profile_item("command:1", "ada", {"stripe_customer_id": "cus_ada"})
    await decider.decide_together(
        [customer_item("command:1", "cus_ada"), profile], adopting(profile, "cus_ada", REAL_NOW)
    )


async def test_kc_31_what_came_before_the_registration_is_the_users_and_read(
    database_url: str, connection: Connection
) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([EARLY])
        await register(decider)

    assert await connection.fetchval("SELECT account_key FROM early_events") == "user:ada"
    assert await connection.fetchval("SELECT key FROM steps WHERE state = 'due'") == "read:user:ada"


async def test_kc_31_an_event_looked_up_before_the_registration_and_decided_after_it_is_not_lost(
    database_url: str, connection: Connection
) -> None:
    async with a_decider(database_url) as decider:
        await register(decider)
        [outcome] = await decider.decide([EARLY])

    assert isinstance(outcome.error, Retryable)
    assert await connection.fetchval("SELECT state FROM parked_messages WHERE message_id = 'evt_1'") == "retrying"
    assert await connection.fetchval("SELECT count(*) FROM early_events") == 0
