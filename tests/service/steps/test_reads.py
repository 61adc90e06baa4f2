from datetime import timedelta
from typing import Any

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.errors import Permanent, Retryable
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.kiloclaw.stripe_events import reading
from bursar.billing.steps import StepKind
from bursar.billing.values import replace
from bursar.service.broker.publisher import NotConfirmed
from bursar.service.deciding.decider import DatabaseUnavailable
from bursar.service.steps.bounds import LEASE, STEPS
from tests.billing.kiloclaw.making import DAY, HOUR, NOW, a_paid_row, a_stripe_subscription, a_trial
from tests.db.deciding import a_subscription_item, an_item
from tests.service.steps.acting import Acting, acting, having, nothing

CUSTOMER = "cus_1"
DUE = NOW + 60 * DAY  # long after grace and deadline
SUSPENDED = {
    "status": "canceled",
    "suspended_at": NOW + 30 * DAY,
    "destruction_deadline": NOW + 37 * DAY,
}


async def a_customer(worker: Acting, **row: Any) -> None:
    await worker.decider.decide([having(a_paid_row(**row), stripe_customer_id=CUSTOMER)])


async def ask(worker: Acting, name: str = "ask") -> None:
    await worker.decider.decide([an_item(name, decide=lambda account: reading(account, "asked"))])


def touching(name: str) -> Any:
    """A message that moves the row: its version grows."""

    def touch(account: Account) -> Decision:
        row = hosting_of(account).subscription
        assert row is not None
        return Decision(with_row(account, replace(row, commit_ends_at=NOW + int(name[-1]) * DAY)))

    return an_item(name, decide=touch)


async def row_of(worker: Acting) -> tuple[Any, ...]:
    query = "SELECT status, stripe_subscription_id, suspended_at IS NULL FROM kiloclaw_subscriptions"
    return (await worker.fetch(query))[0]


async def instance_of(worker: Acting) -> str:
    return str((await worker.fetch("SELECT desired_state FROM kiloclaw_instances"))[0][0])


async def test_kc_32_a_read_brings_the_row_to_what_stripe_says(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker)
        worker.stripe.listed[CUSTOMER] = [a_stripe_subscription(status="past_due")]
        await ask(worker)
        await worker.do_reads()

        assert worker.stripe.asked == [CUSTOMER]  # the list had it: not read by its id as well
        assert (await row_of(worker))[0] == "past_due"
        assert await worker.steps() == [("read_subscriptions", "done", 1)]


async def test_kc_32_a_subscription_that_no_list_has_is_read_by_its_id(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker)
        worker.stripe.known["sub_1"] = a_stripe_subscription(status="unpaid")
        await ask(worker)
        await worker.do_reads()

        assert worker.stripe.asked == [CUSTOMER, "sub_1"]
        assert (await row_of(worker))[0] == "unpaid"


async def test_kc_32_a_row_that_moved_meanwhile_is_asked_about_again_at_growing_distances(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker)
        worker.stripe.listed[CUSTOMER] = [a_stripe_subscription(status="past_due")]
        await ask(worker)
        moves = iter(range(1, 3))

        async def moved_by_a_message() -> None:
            for number in moves:
                await worker.decider.decide([touching(f"touch-{number}")])
                return

        worker.stripe.meanwhile = moved_by_a_message
        waits = []
        for _ in range(3):
            await worker.do_reads()
            due_at = (await worker.fetch("SELECT due_at FROM steps"))[0][0]
            waits.append((due_at - worker.clock.real_now).total_seconds())
            worker.clock.real_now = max(worker.clock.real_now, due_at)

        assert 1 <= waits[0] < 2 <= waits[1] < 3
        assert (await row_of(worker))[0] == "past_due"
        assert await worker.steps() == [("read_subscriptions", "done", 3)]


async def test_kc_31_what_is_heard_of_an_unknown_subscription_during_the_call_is_not_forgotten(
    database_url: str,
) -> None:
    """Its end arrives before its beginning, while Stripe is asked for another reason."""
    async with acting(database_url) as worker:
        await worker.decider.decide([having(a_trial(), stripe_customer_id=CUSTOMER)])
        bought: dict[str, Any] = {"user": "ada", "id": "sub_1", "customer": CUSTOMER}
        worker.stripe.listed[CUSTOMER] = [a_stripe_subscription()]
        await ask(worker)

        async def ended_meanwhile() -> None:
            worker.stripe.meanwhile = nothing
            ended: dict[str, Any] = {"status": "canceled", "ended_at": int((NOW + HOUR).timestamp())}
            event = a_subscription_item("evt_end", kind="deleted", at=NOW + HOUR, **bought, **ended)
            await worker.decider.decide([event])
            worker.stripe.listed[CUSTOMER] = [a_stripe_subscription(**ended)]

        worker.stripe.meanwhile = ended_meanwhile
        await worker.do_reads()
        await worker.decider.decide([a_subscription_item("evt_begin", at=NOW, **bought)])
        worker.clock.real_now += timedelta(minutes=10)
        await worker.do_reads()

        assert (await row_of(worker))[:2] == ("canceled", "sub_1")


async def test_kc_32_what_is_asked_for_during_the_call_is_asked_again_at_once(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker)
        worker.stripe.listed[CUSTOMER] = [a_stripe_subscription(status="past_due")]
        await ask(worker, "first")
        worker.stripe.meanwhile = lambda: ask(worker, "second")
        await worker.do_reads()
        assert (await row_of(worker))[0] == "active"  # the answer to the earlier asking is not applied
        assert await worker.do_reads() == 1
        assert (await row_of(worker))[0] == "past_due"


async def test_ms_11_a_busy_stripe_is_asked_again_when_it_wishes_and_in_the_end_given_up(database_url: str) -> None:
    attempts = STEPS[StepKind.READ_SUBSCRIPTIONS].attempts
    async with acting(database_url) as worker:
        await a_customer(worker)
        await ask(worker)
        worker.stripe.failures = [Retryable("busy", retry_after_seconds=90), *[Retryable("busy")] * (attempts - 1)]
        await worker.do_reads()
        worker.clock.real_now += timedelta(seconds=89)
        assert await worker.do_reads() == 0
        while worker.stripe.failures:
            worker.clock.real_now += timedelta(minutes=6)
            assert await worker.do_reads() == 1

        assert await worker.steps() == [("read_subscriptions", "failed", attempts)]
        await ask(worker, "again")
        assert await worker.do_reads() == 1  # a new asking starts afresh
        assert await worker.steps() == [("read_subscriptions", "done", 1)]


async def test_an_outage_of_our_own_servers_uses_up_no_attempt(database_url: str) -> None:
    bounds = STEPS[StepKind.READ_SUBSCRIPTIONS]
    async with acting(database_url) as worker:
        await a_customer(worker)
        await ask(worker)
        worker.stripe.failures = [DatabaseUnavailable("away"), NotConfirmed("away")] * bounds.attempts
        while worker.stripe.failures:
            assert await worker.do_reads() == 1
            assert await worker.steps() == [("read_subscriptions", "due", 0)]
            worker.clock.real_now += bounds.backoff.cap
        assert await worker.do_reads() == 1
        assert await worker.steps() == [("read_subscriptions", "done", 1)]


async def test_kc_33_an_unknown_status_fails_the_step_and_changes_nothing(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker)
        worker.stripe.listed[CUSTOMER] = [a_stripe_subscription(status="dreaming")]
        await ask(worker)
        await worker.do_reads()
        worker.stripe.failures = [Permanent("no such key")]
        assert (await row_of(worker))[0] == "active"
        assert [state for _, state, _ in await worker.steps()] == ["failed"]


async def test_a_crash_after_the_call_asks_again_once_the_lease_ends(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker)
        await ask(worker)
        crew = worker.read_crew()
        (job,) = await crew.claim(16)
        await crew._work.attempt(job, nothing)  # and dies here
        worker.clock.real_now += LEASE
        assert await worker.do_reads() == 1
        assert await worker.steps() == [("read_subscriptions", "done", 2)]


async def test_kc_73_the_interlock_asks_stripe_and_then_destroys(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker, **SUSPENDED)
        worker.clock.now = DUE
        worker.stripe.listed[CUSTOMER] = [a_stripe_subscription(status="canceled", ended_at=int(NOW.timestamp()))]
        await worker.sweep("destruction")
        assert await instance_of(worker) == "running"  # nothing is decided before Stripe was asked
        await worker.do_reads()
        assert await instance_of(worker) == "destroyed"
        await worker.do_instances()

        assert worker.instances.calls == [("inst-ada", "destroyed", 2)]
        query = "SELECT destruction_deadline FROM kiloclaw_subscriptions"
        assert await worker.fetch(query) == [(None,)]
        await worker.do_mails()
        assert await worker.mails() == [("claw_instance_destroyed", "sent")]


async def test_kc_74_a_live_subscription_at_stripe_repairs_the_row_instead(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker, **SUSPENDED)
        worker.clock.now = DUE
        worker.stripe.listed[CUSTOMER] = [
            a_stripe_subscription(status="canceled", ended_at=int(NOW.timestamp())),
            a_stripe_subscription(id="sub_2", status="active"),
        ]
        await worker.sweep("destruction")
        await worker.do_reads()

        assert await row_of(worker) == ("active", "sub_2", True)
        assert await instance_of(worker) == "running"


async def test_kc_74_if_stripe_cannot_be_asked_destruction_waits(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker, **SUSPENDED)
        worker.clock.now = DUE
        worker.stripe.failures = [Retryable("Stripe is away")]
        await worker.sweep("destruction")
        await worker.do_reads()

        assert await instance_of(worker) == "running"
        assert [state for _, state, _ in await worker.steps()] == ["due"]


async def test_kc_74_no_more_destructions_a_day_than_the_cap_by_the_interlock(database_url: str) -> None:
    async with acting(database_url, destructions_per_day=1) as worker:
        for user in ("ada", "eve"):
            row = a_paid_row(**SUSPENDED, stripe_subscription_id=f"sub_{user}", stripe_customer_id=f"cus_{user}")
            await worker.decider.decide([having(row, user)])
            ended = a_stripe_subscription(
                id=f"sub_{user}", customer=f"cus_{user}", status="canceled", metadata={"type": "kiloclaw"}
            )
            worker.stripe.listed[f"cus_{user}"] = [ended]
        worker.clock.now = DUE
        for user in ("ada", "eve"):
            await worker.sweep("destruction", user)
        assert await worker.do_reads() == 2

        query = "SELECT count(*) FROM kiloclaw_instances WHERE destroying_since IS NOT NULL"
        assert await worker.fetch(query) == [(1,)]
        worker.clock.now += DAY
        for user in ("ada", "eve"):
            await worker.sweep("destruction", user)
        await worker.do_reads()
        assert await worker.fetch(query) == [(2,)]


async def test_kc_73_a_payment_saves_the_instance_up_to_the_mark(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker, **SUSPENDED)
        worker.clock.now = DUE
        await worker.sweep("destruction")

        async def paid_meanwhile() -> None:
            await worker.decider.decide([touching("paid-1")])
            worker.stripe.meanwhile = nothing

        worker.stripe.meanwhile = paid_meanwhile
        worker.stripe.listed[CUSTOMER] = [a_stripe_subscription(status="canceled", ended_at=int(NOW.timestamp()))]
        await worker.do_reads()

        assert await instance_of(worker) == "running"  # the row moved: asked again first


async def test_kc_74_an_answer_that_knows_nothing_of_the_row_destroys_nothing(database_url: str) -> None:
    async with acting(database_url) as worker:
        await a_customer(worker, **SUSPENDED)
        worker.clock.now = DUE
        await worker.sweep("destruction")
        assert await worker.do_reads() == 1

        assert await worker.fetch("SELECT count(*) FROM kiloclaw_instances WHERE destroying_since IS NOT NULL") == [
            (0,)
        ]
        assert await worker.do_reads() == 0
