"""`bursar why`: the chain from event or tick to decision, step and mail."""

import json

from bursar.db.items import MessageCopy
from bursar.service.operators.explaining import chain_of
from bursar.service.operators.telling import sentence
from tests.billing.credits.crediting import DUE, a_credit_row
from tests.billing.kiloclaw.making import DAY, HOUR, NOW, a_paid_row, a_trial
from tests.db.deciding import a_subscription_item, an_item
from tests.service.cli.running import bursar
from tests.service.crediting import hosted
from tests.service.steps.acting import Acting, acting, having, suspended_trial
from tests.service.steps.operating import operating, selling
from tests.service.test_arrivals import LATE, paid


async def sentences(worker: Acting, user: str = "ada", limit: int = 200) -> list[str]:
    async with worker.decider.pool.acquire() as connection:
        return [sentence(link) for link in await chain_of(connection, user, limit)]


async def test_a_suspension_is_told_with_its_tick_its_reason_and_its_mail(database_url: str) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([having(a_paid_row(status="past_due", past_due_since=NOW - 15 * DAY))])
        await worker.sweep("past_due")
        await worker.do_mails()
        await worker.do_instances()
        *_, suspended, done = await sentences(worker)

    assert suspended.startswith("1 June 2026 09:00 UTC  ")
    assert "suspended" in suspended
    assert "instance to be destroyed after 8 June 2026 09:00 UTC" in suspended
    assert ": payment overdue (tick past_due of 1 June 2026 09:00 UTC)" in suspended
    assert suspended.endswith("; mail claw_suspended_payment sent")
    assert "instance is as it should be" in done
    assert done.endswith("(answer of the instance API)")


async def test_a_warning_that_changed_no_row_is_told(database_url: str) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([having(a_trial(trial_ends_at=NOW + 2 * DAY), email=None)])
        await worker.sweep("trial_warning")
        await worker.do_mails()
        (*_, warned) = await sentences(worker)

    assert "mail claw_trial_5d not sent yet, for want of an address or a provider" in warned
    assert "(tick trial_warning of 1 June 2026 09:00 UTC)" in warned


async def test_an_event_is_told_by_its_id_and_links_are_in_time_order(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        worker.clock.now = NOW + 32 * DAY
        await worker.decider.decide([a_subscription_item("evt_paid", "ada")])
        told = await sentences(worker)

    assert ["suspended" in told[1], "Stripe event evt_paid" in told[2]] == [True, True]
    assert "suspension lifted" in told[2]
    assert "instance to be started" in told[2]


async def test_a_message_that_waits_is_told_and_addresses_are_not(database_url: str) -> None:
    def failing(_: object) -> None:
        raise ValueError

    async with acting(database_url) as worker:
        await suspended_trial(worker)
        copy = MessageCopy("stripe.invoice.paid", {}, b"{}")
        await worker.decider.decide([an_item("evt_bad", decide=failing, copy=copy)])  # type: ignore[arg-type]
        await worker.fetch("UPDATE parked_messages SET error = 'refused for ada@example.com'")
        told = "\n".join(await sentences(worker))

    assert "stripe.invoice.paid could not be handled and is tried again soon" in told
    assert "Stripe event evt_bad" in told
    assert "@" not in told


async def test_an_operation_at_stripe_is_told_without_its_journal(database_url: str) -> None:
    async with operating(database_url) as worker:
        worker.calls.refusals = {"pay": "card_declined", "undo:1:item": "no"}
        await worker.decider.decide([selling("command:1")])
        [begun] = await sentences(worker)
        await worker.work()
        [told, read] = await sentences(worker)

    assert begun.endswith("sell at Stripe: under way (request of the product)")
    assert told.endswith("sell at Stripe: left to an operator: not taken back: undo:1:item (request of the product)")
    assert read.endswith("Stripe was asked for the subscriptions: due (end of a change at Stripe)")


async def test_cr_1_entries_of_the_ledger_are_told_with_what_they_paid_and_the_balance_they_left(
    database_url: str,
) -> None:
    async with acting(database_url) as worker:
        worker.clock.now = LATE
        await hosted(worker, a_credit_row(status="past_due", past_due_since=DUE), 10)
        worker.clock.now = LATE + HOUR
        await paid(worker, 50)
        _, given, renewed = await sentences(worker)

    assert given.endswith("deposit +$10.00 for given (pi_ada), balance $10.00 (Stripe event evt_0)")
    assert "paid until 31 March 2026 09:00 UTC" in renewed
    assert "paid until 30 April 2026 09:00 UTC" in renewed
    assert "(Stripe event evt_1); deposit +$50.00 for Credit top-up (pi_1), balance $60.00; charge -$25.00" in renewed
    assert "charge -$25.00 for KiloClaw hosting, standard plan, balance $35.00" in renewed
    assert "balance $10.00; mail claw_credit_renewal_failed waits to be sent" in renewed


async def test_a_renewal_of_a_tick_is_told_with_its_own_charge(database_url: str) -> None:
    async with acting(database_url) as worker:
        worker.clock.now = LATE
        await hosted(worker, a_credit_row(), 60)
        for _ in range(2):
            worker.clock.now += HOUR
            await worker.sweep("credit_renewal")
        *_, first, second = await sentences(worker)

    assert "paid until 31 March 2026" in first
    assert "(tick credit_renewal of 4 May 2026 10:00 UTC); charge -$25.00" in first
    assert first.endswith("balance $35.00")
    assert "paid until 30 April 2026" in second
    assert second.endswith("balance $10.00")


async def test_the_newest_are_told_where_there_are_more(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
        (only,) = await sentences(worker, limit=2)
    assert "suspended" in only


async def test_the_command_tells_it_in_words_and_as_json(database_url: str) -> None:
    async with acting(database_url) as worker:
        await suspended_trial(worker)
    in_words, as_json = (bursar("why", "ada", *more, DATABASE_URL=database_url) for more in ((), ("--json",)))

    assert "suspended" in in_words.out.splitlines()[-1]
    last = json.loads(as_json.out)[-1]
    assert last["sentence"] == in_words.out.splitlines()[-1]
    assert last["cause"].startswith("tick:trial_expiry:")
    assert {change["entity"] for change in last["changes"]} == {"kiloclaw_subscriptions", "kiloclaw_instances"}
    assert [step["mail"] for step in last["steps"]] == ["claw_suspended_trial"]
    unknown = bursar("why", "nobody", DATABASE_URL=database_url)
    assert (unknown.exit_code, unknown.err) == (1, "bursar: Nothing is recorded of that user.\n")


async def test_the_command_shows_entries_as_json(database_url: str) -> None:
    async with acting(database_url) as worker:
        await hosted(worker, a_paid_row(), 10)
    told = bursar("why", "ada", "--json", DATABASE_URL=database_url)
    ((booking,),) = [link["bookings"] for link in json.loads(told.out) if link["bookings"]]
    assert booking["balance_microdollars"] == 10_000_000
    shown = {name: booking["entry"][name] for name in ("kind", "amount_microdollars", "description", "cause")}
    assert shown == {"kind": "deposit", "amount_microdollars": 10_000_000, "description": "given", "cause": "evt_0"}
    assert (booking["entry"]["payment_id"], booking["entry"]["business_key"]) == ("pi_ada", "deposit:pi_ada")
