"""A due automatic top-up is asked about under the account's lock before it charges the card (CR-31, CR-38, CR-39)."""

from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import orjson
import pytest

from bursar.billing.account import user_key
from bursar.billing.errors import Refused
from bursar.db.items import Item
from bursar.handlers.credits import auto_top_up_item
from bursar.handlers.kiloclaw_commands import cancel_item
from bursar.handlers.messages import ReceivedMessage, item_of
from bursar.service.stripe_stand_in.faults import Fault
from bursar.service.web.deleting import deleted
from tests.billing.credits.crediting import DUE
from tests.billing.kiloclaw.making import CATALOGUE, HOUR, event_json
from tests.service.crediting import balance, giving
from tests.service.steps.acting import Acting
from tests.service.steps.operating import a_lease
from tests.service.steps.test_auto_top_ups import LOOK, MAIL, PAY, TopUps, enabled, short_of_money
from tests.service.ticks.test_credit_renewals import row, tick

Meanwhile = Callable[[TopUps], Awaitable[None]]


async def decided(worker: Acting, *items: Item) -> None:
    for outcome in await worker.decider.decide(items):
        assert outcome.error is None


def switched(*, enabled: bool, command: str = "command:switch") -> Item:
    return auto_top_up_item(command, "ada", enabled=enabled)


def bought(cents: int) -> Item:
    """The event of a page on which the user bought credits."""
    payment = {
        "id": "pi_own",
        "object": "payment_intent",
        "amount_received": cents,
        "currency": "usd",
        "metadata": {"type": "credit_topup", "userId": "ada"},
    }
    body = orjson.dumps(event_json("payment_intent.succeeded", payment, DUE, "evt_own"))
    message = ReceivedMessage("evt_own", "stripe.payment_intent.succeeded", user_key("ada"), body)
    return item_of(message, user_key("ada"), CATALOGUE)


async def switched_off(ada: TopUps) -> None:
    await decided(ada.worker, switched(enabled=False))


async def renewed_by_an_own_payment(ada: TopUps) -> None:
    await decided(ada.worker, bought(5_000))
    assert await row(ada.worker, "status", "current_period_start") == ("active", DUE)


async def set_to_cancel(ada: TopUps) -> None:
    await decided(ada.worker, cancel_item("command:cancel", "ada", a_lease()))


async def canceled(ada: TopUps) -> None:
    await set_to_cancel(ada)
    await tick(ada.worker, ada.sweeps, DUE + HOUR)
    assert await row(ada.worker, "status") == ("canceled",)


async def steps(worker: Acting) -> list[tuple[Any, ...]]:
    return await worker.fetch("SELECT state, asked FROM steps WHERE kind = 'top_up'")


@pytest.mark.parametrize(
    ("meanwhile", "status"),
    [
        (switched_off, "past_due"),
        (renewed_by_an_own_payment, "active"),
        (set_to_cancel, "canceled"),
        (canceled, "canceled"),
    ],
)
@pytest.mark.parametrize("looked", [False, True])
async def test_cr_31_cr_38_a_top_up_that_is_no_longer_wanted_charges_nothing(
    database_url: str,
    meanwhile: Meanwhile,
    status: str,
    looked: bool,  # noqa: FBT001
) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        if looked:  # an attempt got as far as its first look
            ada.stripe.faults.next("GET /v1/customers/{customer}", Fault.TIMEOUT_BEFORE)
            for job in await ada.crew.claim(1):
                await ada.crew.carry_out(job)
        await meanwhile(ada)
        await ada.settle()

        assert (ada.stripe.all("payment_intent"), await steps(ada.worker)) == ([], [("dropped", 1)])
        assert await row(ada.worker, "status", "top_up_boundary") == (status, None)


async def test_cr_38_before_its_first_call_stripe_is_not_asked_either(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await switched_off(ada)
        ada.stripe.faults.next(LOOK, Fault.TIMEOUT_BEFORE)
        for job in await ada.crew.claim(1):
            await ada.crew.carry_out(job)
        assert await steps(ada.worker) == [("dropped", 1)]


async def test_cr_39_switched_off_it_is_past_due_with_its_mail_at_once(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await switched_off(ada)
        await ada.settle()
        assert await row(ada.worker, "status", "past_due_since") == ("past_due", DUE)
        assert [mail for mail, _ in await ada.worker.mails()] == [MAIL]


async def test_cr_38_what_was_never_tried_may_be_tried_once_it_is_on_again(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await switched_off(ada)
        await ada.settle()
        await decided(ada.worker, switched(enabled=True, command="command:on"))
        await tick(ada.worker, ada.sweeps, DUE + HOUR)
        await ada.settle()

        assert (ada.paid_cents(), await balance(ada.worker)) == ([2_000], 5)
        assert await row(ada.worker, "status", "current_period_start") == ("active", DUE)
        assert (await steps(ada.worker), await enabled(ada.worker)) == ([("done", 2)], True)


async def test_cr_38_off_and_on_again_before_its_turn_is_as_if_nothing_was(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await switched_off(ada)
        await decided(ada.worker, switched(enabled=True, command="command:on"))
        await ada.settle()
        assert (ada.paid_cents(), await steps(ada.worker)) == ([2_000], [("done", 1)])


async def test_cr_38_a_shortfall_that_changed_is_asked_for_anew_at_once(database_url: str) -> None:
    async with short_of_money(database_url, dollars=4) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await decided(ada.worker, giving(4, payment_id="pi_gift"))
        await ada.settle()
        assert (ada.paid_cents(), await balance(ada.worker)) == ([2_000], 3)
        assert await row(ada.worker, "status", "current_period_start") == ("active", DUE)


async def test_cr_38_a_payment_in_flight_goes_on_to_learn_its_outcome(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        ada.stripe.faults.next(PAY, Fault.TIMEOUT_AFTER)
        for job in await ada.crew.claim(1):
            await ada.crew.carry_out(job)
        await switched_off(ada)
        await ada.settle()

        assert (ada.paid_cents(), await steps(ada.worker)) == ([2_000], [("done", 1)])
        assert (await balance(ada.worker), await row(ada.worker, "status")) == (5, ("active",))


async def test_cr_38_after_a_spent_key_it_looks_and_asks_again(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        ada.stripe.faults.next(PAY, Fault.ERROR_BEFORE)
        for job in await ada.crew.claim(1):
            await ada.crew.carry_out(job)
        await switched_off(ada)
        await ada.settle()
        assert (ada.stripe.all("payment_intent"), await steps(ada.worker)) == ([], [("dropped", 1)])


async def test_cr_38_it_is_asked_under_the_accounts_lock(database_url: str, connection: asyncpg.Connection) -> None:
    """Whoever switches it off while it is asked either comes first, or finds the payment begun."""
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        async with connection.transaction():
            await connection.execute("SELECT FROM accounts WHERE key = 'user:ada' FOR UPDATE")
            for job in await ada.crew.claim(1):
                await ada.crew.carry_out(job)
            await connection.execute("UPDATE users SET auto_top_up = false")
        assert await ada.worker.fetch("SELECT error FROM steps WHERE kind = 'top_up'") == [
            ("Retryable: the account is busy",)
        ]
        await ada.settle()
        assert (ada.stripe.all("payment_intent"), await steps(ada.worker)) == ([], [("dropped", 1)])


async def test_kc_120_a_deletion_waits_for_a_due_top_up_which_then_charges_nothing(database_url: str) -> None:
    async with short_of_money(database_url) as ada:
        await tick(ada.worker, ada.sweeps, DUE)
        await canceled(ada)
        with pytest.raises(Refused, match="under way"):
            await deleted(ada.worker.decider, "ada", "command:delete")
        await ada.settle()
        await deleted(ada.worker.decider, "ada", "command:delete-again")
        assert ada.stripe.all("payment_intent") == []
