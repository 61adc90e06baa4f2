import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import Refused, UnknownStripeStatus
from bursar.billing.kiloclaw.trial import provision, start_trial
from bursar.billing.values import replace
from bursar.db import parked
from bursar.db.batches import MAX_ITEMS
from bursar.db.connections import Connection
from bursar.db.decide import record_unsaved
from bursar.db.fold import Failure
from bursar.db.items import Dedupe, Outcome, OutcomeState, Situation
from bursar.service.deciding.decider import AccountBusy
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW
from tests.db.deciding import REAL_NOW, a_decider, a_subscription_item, an_item


def states(outcomes: list[Outcome]) -> list[str]:
    return [outcome.state.value for outcome in outcomes]


def raising(error: Exception) -> object:
    def decide(_: Account) -> Decision:
        raise error

    return decide


async def test_ms_3_a_message_takes_effect_once_in_a_batch_and_across_batches(
    database_url: str, connection: Connection
) -> None:
    item = a_subscription_item("evt_1")
    async with a_decider(database_url) as decider:
        first = await decider.decide([item, a_subscription_item("evt_1")])
        second = await decider.decide([item])

    assert states(first) == ["applied", "duplicate"]
    assert states(second) == ["duplicate"]
    assert await connection.fetchval("SELECT count(*) FROM change_log") == 1


async def test_kc_4_every_change_of_a_row_is_logged_with_its_cause(database_url: str, connection: Connection) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([a_subscription_item("evt_1")])
        await decider.decide([a_subscription_item("evt_2", kind="updated", at=NOW + DAY, status="past_due")])

    entries = await connection.fetch("SELECT * FROM change_log ORDER BY id")
    assert [entry["cause"] for entry in entries] == ["evt_1", "evt_2"]
    assert entries[0]["before"] is None
    assert '"status": "past_due"' in entries[1]["after"]
    assert (entries[1]["actor"], entries[1]["reason"]) == ("system", "customer.subscription.updated")
    assert entries[1]["decided_at"] == NOW


async def test_ms_5_a_raising_message_fails_alone_and_waits_for_its_retry(
    database_url: str, connection: Connection
) -> None:
    bug = an_item("evt_bug", "bob", raising(ZeroDivisionError("card 4242424242424242")))  # type: ignore[arg-type]
    async with a_decider(database_url) as decider:
        outcomes = await decider.decide([a_subscription_item("evt_1"), bug, a_subscription_item("evt_2", "eve")])

    assert states(outcomes) == ["applied", "failed", "applied"]
    row = await connection.fetchrow("SELECT * FROM parked_messages")
    assert row is not None
    assert (row["message_id"], row["state"], row["attempts"]) == ("evt_bug", "retrying", 1)
    assert REAL_NOW + timedelta(seconds=10) <= row["retry_at"] <= REAL_NOW + timedelta(seconds=12)
    assert row["error"].startswith("ZeroDivisionError at ")
    assert "4242" not in row["error"]


async def test_kc_78_a_follow_up_that_fails_is_dropped_alone(database_url: str, connection: Connection) -> None:
    def failing(_: Account) -> Decision:
        raise ZeroDivisionError

    def starting(account: Account) -> Decision:
        return start_trial(account, CATALOGUE, NOW, "evt_1")

    def begun(account: Account) -> Decision:
        return Decision(account, result={"id": 1}, follow_ups=(failing, starting))

    async with a_decider(database_url) as decider:
        (outcome,) = await decider.decide([an_item("evt_1", decide=begun)])

    assert outcome.decision
    assert outcome.decision.result == {"id": 1}
    assert outcome.decision.counts["follow_up_failed"] == 1
    assert await connection.fetchval("SELECT status FROM kiloclaw_subscriptions") == "trialing"
    assert await connection.fetchval("SELECT count(*) FROM parked_messages") == 0


async def test_ms_6_a_hopeless_message_is_parked_at_once(database_url: str, connection: Connection) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([an_item("evt_1", decide=raising(UnknownStripeStatus("unknown status")))])  # type: ignore[arg-type]

    row = await connection.fetchrow("SELECT state, error, retry_at FROM parked_messages")
    assert row is not None
    assert tuple(row) == ("parked", "UnknownStripeStatus: unknown status", None)


async def test_ms_6_three_retries_from_the_row_then_parked(database_url: str, connection: Connection) -> None:
    failing = raising(ZeroDivisionError())
    async with a_decider(database_url) as decider:
        await decider.decide([an_item("evt_1", decide=failing)])  # type: ignore[arg-type]
        for attempts in (1, 2, 3):
            again = an_item("evt_1", decide=failing, dedupe=Dedupe.PARKED, attempts=attempts)  # type: ignore[arg-type]
            assert await connection.fetchval("SELECT state FROM parked_messages") == "retrying"
            await decider.decide([again])

    row = await connection.fetchrow("SELECT state, attempts, retry_at FROM parked_messages")
    assert row is not None
    assert tuple(row) == ("parked", 4, None)


async def test_ms_6_a_retry_that_succeeds_takes_effect_once(database_url: str, connection: Connection) -> None:
    async with a_decider(database_url) as decider:
        await decider.decide([an_item("evt_1", decide=raising(ZeroDivisionError()))])  # type: ignore[arg-type]
        claimed = await parked.claim_due(connection, REAL_NOW + DAY, REAL_NOW + 2 * DAY, 64)
        retry = a_subscription_item("evt_1")
        again = an_item("evt_1", decide=lambda account: retry.decide(account, None), dedupe=Dedupe.PARKED)  # type: ignore[arg-type]
        outcomes = await decider.decide([again, again])
        late = await decider.decide([again])

    assert [one.message_id for one in claimed] == ["evt_1"]
    assert states(outcomes)[0] == "applied"
    assert states(late) == ["duplicate"]
    assert await connection.fetchval("SELECT state FROM parked_messages") == "replayed"


async def test_ms_5_an_error_while_saving_is_traced_to_its_item(database_url: str, connection: Connection) -> None:
    thief = a_subscription_item("evt_thief", "eve", id="sub_ada")
    honest = [a_subscription_item(f"evt_{user}", user) for user in ("ada", "bob", "cyd", "dan")]
    async with a_decider(database_url) as decider:
        outcomes = await decider.decide([*honest[:2], thief, *honest[2:]])

    assert states(outcomes) == ["applied", "applied", "failed", "applied", "applied"]
    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_subscriptions") == 4
    assert await connection.fetchval("SELECT message_id FROM parked_messages") == "evt_thief"


async def test_ms_3_what_was_set_aside_takes_effect_once_however_often_it_is_delivered(
    database_url: str, connection: Connection
) -> None:
    thief = a_subscription_item("evt_thief", "eve", id="sub_ada")
    async with a_decider(database_url) as decider:
        await decider.decide([a_subscription_item("evt_ada"), thief])
        await connection.execute("UPDATE kiloclaw_subscriptions SET stripe_subscription_id = 'sub_other'")
        delivered_again = await decider.decide([thief])
        retried = await decider.decide([replace(thief, dedupe=Dedupe.PARKED, attempts=1)])

    assert (states(delivered_again), states(retried)) == (["duplicate"], ["applied"])
    assert await connection.fetchval("SELECT count(*) FROM change_log WHERE cause = 'evt_thief'") == 1


async def test_ms_3_a_message_that_another_handled_meanwhile_is_not_written_down(
    database_url: str, connection: Connection
) -> None:
    item = a_subscription_item("evt_1")
    async with a_decider(database_url) as decider:
        await decider.decide([item])

    assert not await record_unsaved(connection, Failure(item, AccountBusy("busy")), Situation(NOW, REAL_NOW))
    assert await connection.fetchval("SELECT count(*) FROM parked_messages") == 0


async def test_ms_4_batches_of_the_same_new_users_in_opposite_orders_do_not_deadlock(
    database_url: str, connection: Connection
) -> None:
    users = [f"user-{number}" for number in range(40)]
    async with a_decider(database_url) as decider:
        for turn in range(5):
            forth = [a_subscription_item(f"a-{turn}-{user}", f"{turn}-{user}") for user in users]
            back = [a_subscription_item(f"b-{turn}-{user}", f"{turn}-{user}") for user in reversed(users)]
            outcomes = await asyncio.gather(decider.decide(forth), decider.decide(back))
            assert {outcome.state for batch in outcomes for outcome in batch} == {OutcomeState.APPLIED}

    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_subscriptions") == 200
    assert await connection.fetchval("SELECT count(*) FROM parked_messages") == 0


async def test_ms_4_two_writers_of_one_account_are_serialised(database_url: str, connection: Connection) -> None:
    """KC-11: two concurrent starts leave one trial."""

    def starting(number: int) -> Callable[[Account], Decision]:
        return lambda account: start_trial(account, CATALOGUE, NOW, f"command:{number}")

    commands = [an_item(f"command:{number}", copy=None, decide=starting(number)) for number in range(20)]
    async with a_decider(database_url) as decider:
        outcomes = await asyncio.gather(*(decider.decide([command]) for command in commands))

    ended = [batch[0] for batch in outcomes]
    assert sum(outcome.state is OutcomeState.APPLIED for outcome in ended) == 1
    assert sum(isinstance(outcome.error, Refused) for outcome in ended) == 19
    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_subscriptions") == 1


async def test_kc_2_an_instance_of_another_user_is_refused(database_url: str, connection: Connection) -> None:
    def provisioning(user: str) -> object:
        return lambda account: provision(account, "inst-1", CATALOGUE, NOW, f"command:{user}")

    async with a_decider(database_url) as decider:
        first, second = [
            (await decider.decide([an_item(f"command:{user}", user, provisioning(user), copy=None)]))[0]  # type: ignore[arg-type]
            for user in ("ada", "eve")
        ]

    assert (first.state, second.state) == (OutcomeState.APPLIED, OutcomeState.FAILED)
    assert isinstance(second.error, Refused)
    assert await connection.fetchval("SELECT account_key FROM kiloclaw_instances") == "user:ada"
    assert await connection.fetchval("SELECT count(*) FROM kiloclaw_subscriptions") == 1


async def test_batches_larger_than_the_bound_are_split(database_url: str, connection: Connection) -> None:
    items = [a_subscription_item(f"evt_{number}", f"user-{number}") for number in range(MAX_ITEMS + 1)]
    async with a_decider(database_url) as decider:
        outcomes = await decider.decide(items)

    assert len(outcomes) == MAX_ITEMS + 1
    assert await connection.fetchval("SELECT count(*) FROM inbox") == MAX_ITEMS + 1


@pytest.mark.parametrize("key", ["user:ada", "customer:cus_1"])
async def test_an_account_knows_its_partition(database_url: str, connection: Connection, key: str) -> None:
    item = an_item("evt_1")
    async with a_decider(database_url) as decider:
        await decider.decide([type(item)(item.id, key, item.parts, item.decide)])

    assert await connection.fetchval("SELECT partition FROM accounts WHERE key = $1", key) in range(32)
