"""A sweep run dry tells what the sweep then does, and changes nothing (KC-79)."""

from datetime import datetime
from typing import Any

import pytest

from bursar.billing.kiloclaw.foreseeing import IF_NOTHING_LIVE, NOT_TODAY, ONCE_GONE, Effect
from bursar.billing.kiloclaw.rows import Subscription
from bursar.handlers.kiloclaw_commands import earlybird_item
from bursar.sweeps.dry_run import IF_CONFIGURED, DryRun, Place
from bursar.sweeps.table import SWEEPS
from tests.billing.credits.crediting import a_credit_row
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, NOW, a_paid_row, a_trial
from tests.service.crediting import hosted
from tests.service.steps.acting import Acting, acting, having

OVERDUE = {"status": "canceled", "suspended_at": NOW - 8 * DAY, "destruction_deadline": NOW - DAY}
NO_STRIPE = {"payment_source": "credits", "credit_renewal_at": NOW, "stripe_subscription_id": None}
ROWS: dict[str, Subscription] = {
    "trial": a_trial(trial_started_at=NOW - 30 * DAY, trial_ends_at=NOW - HOUR),
    "warned": a_trial(trial_ends_at=NOW + 2 * DAY),
    "late": a_paid_row(stripe_subscription_id="sub_l", status="past_due", past_due_since=NOW - 15 * DAY),
    "paid": a_paid_row(),
    "gone": a_trial(trial_started_at=NOW - 50 * DAY, trial_ends_at=NOW - 9 * DAY, **OVERDUE),
    "asked": a_paid_row(stripe_subscription_id="sub_a", stripe_customer_id="cus_a", **OVERDUE),
}


async def foreseen(worker: Acting, plan: str = "hourly", at: datetime = NOW, **changes: Any) -> list[Effect]:
    run = DryRun(plan, changes.get("catalogue", CATALOGUE), 32)
    async with worker.decider.pool.acquire() as connection:
        effects, place = await run.effects(connection, Place(at), 1_000)
    assert place is None
    return effects


async def everything(worker: Acting) -> list[Any]:
    tables = await worker.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename")
    return [await worker.fetch(f"SELECT * FROM {table} ORDER BY 1::text") for (table,) in tables]  # noqa: S608


async def people(worker: Acting, *names: str) -> None:
    await worker.decider.decide([having(ROWS[name], name) for name in names or ROWS])


def told(effects: list[Effect]) -> set[tuple[str, str, str | None]]:
    return {(effect.account_key.removeprefix("user:"), effect.kind, effect.subject) for effect in effects}


async def test_kc_79_it_lists_each_suspension_destruction_and_mail_and_changes_nothing(database_url: str) -> None:
    async with acting(database_url) as worker:
        await people(worker)
        before = await everything(worker)
        effects = await foreseen(worker)

        assert told(effects) == {
            ("trial", "suspension", "inst-trial"),
            ("trial", "mail", "claw_suspended_trial"),
            ("late", "suspension", "inst-late"),
            ("late", "mail", "claw_suspended_payment"),
            ("gone", "destruction", "inst-gone"),
            ("gone", "mail", "claw_instance_destroyed"),
            ("asked", "destruction", "inst-asked"),
            ("asked", "mail", "claw_instance_destroyed"),
            ("warned", "mail", "claw_trial_5d"),
        }
        assert await everything(worker) == before


async def test_kc_79_what_it_lists_is_what_the_sweeps_then_do(database_url: str) -> None:
    async with acting(database_url) as worker:
        await people(worker, "trial", "warned", "late", "paid", "gone")
        effects = await foreseen(worker)
        for name in ("trial", "warned", "late", "paid", "gone"):
            for sweep in SWEEPS:
                await worker.sweep(sweep, name)
        await worker.do_instances()

        suspended = await worker.fetch("SELECT instance_id FROM kiloclaw_subscriptions WHERE suspended_at = $1", NOW)
        destroyed = await worker.fetch("SELECT id FROM kiloclaw_instances WHERE destroyed_at IS NOT NULL")
        mails = await worker.fetch("SELECT email_type FROM kiloclaw_email_log")
        for kind, happened in {"suspension": suspended, "destruction": destroyed, "mail": mails}.items():
            listed = [effect.subject for effect in effects if effect.kind == kind]
            assert sorted(map(str, listed)) == sorted(one for (one,) in happened)


async def test_kc_74_a_destruction_that_stripe_may_forbid_is_listed_with_that_condition(database_url: str) -> None:
    async with acting(database_url) as worker:
        await people(worker, "asked", "gone")
        conditions = {(effect.account_key, effect.kind): effect.condition for effect in await foreseen(worker)}
        assert conditions == {
            ("user:asked", "destruction"): IF_NOTHING_LIVE,
            ("user:asked", "mail"): f"{IF_NOTHING_LIVE}; {ONCE_GONE}",
            ("user:gone", "destruction"): "",
            ("user:gone", "mail"): ONCE_GONE,
        }


async def test_kc_74_what_exceeds_the_days_destructions_is_listed_as_not_today(database_url: str) -> None:
    grace = CATALOGUE.kiloclaw.grace.model_copy(update={"destructions_per_day": 3})
    catalogue = CATALOGUE.model_copy(update={"kiloclaw": CATALOGUE.kiloclaw.model_copy(update={"grace": grace})})
    async with acting(database_url) as worker:
        await worker.decider.decide([having(ROWS["gone"], f"gone{number}") for number in range(5)])
        await worker.fetch("INSERT INTO destruction_days (day, used) VALUES ($1, 1)", NOW.date())
        effects = await foreseen(worker, "destruction", catalogue=catalogue)
        destructions = [effect.condition for effect in effects if effect.kind == "destruction"]
        assert sorted(destructions) == ["", "", NOT_TODAY, NOT_TODAY, NOT_TODAY]


async def test_kc_79_one_sweep_lists_its_own_effects_only_and_an_instant_may_be_looked_ahead_to(
    database_url: str,
) -> None:
    async with acting(database_url) as worker:
        await people(worker, "trial", "late", "paid")
        assert told(await foreseen(worker, "past_due")) == {
            ("late", "suspension", "inst-late"),
            ("late", "mail", "claw_suspended_payment"),
        }
        assert told(await foreseen(worker, "past_due", NOW - 2 * DAY)) == set()


async def test_kc_90_an_instance_that_would_be_started_is_listed(database_url: str) -> None:
    async with acting(database_url) as worker:
        await people(worker, "paid")
        await worker.fetch("UPDATE kiloclaw_instances SET desired_state = 'stopped', generation = 2")
        assert told(await foreseen(worker)) == {("paid", "start", "inst-paid")}


async def test_kc_76_earlybird_warnings_are_listed_for_users_without_a_row(database_url: str) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([earlybird_item("command:1", "ada", "pi_1", CATALOGUE)])
        effects = await foreseen(worker, at=CATALOGUE.kiloclaw.earlybird.access_until - HOUR)
        assert told(effects) == {("ada", "mail", "claw_earlybird_1d")}


async def test_kc_79_who_is_found_by_two_sweeps_is_listed_once(database_url: str) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([having(a_trial(), "late")])
        await worker.fetch("UPDATE kiloclaw_instances SET desired_state = 'stopped', generation = 2")
        effects = [(effect.sweep, effect.subject) for effect in await foreseen(worker, at=NOW + 30 * DAY - HOUR)]
        assert effects == [("resume", "inst-late"), ("trial_warning", "claw_trial_1d")]


async def test_kc_79_what_one_sweep_leaves_to_the_next_is_listed_too(database_url: str) -> None:
    grace = CATALOGUE.kiloclaw.grace.model_copy(update={"destruction_days": 1})
    catalogue = CATALOGUE.model_copy(update={"kiloclaw": CATALOGUE.kiloclaw.model_copy(update={"grace": grace})})
    async with acting(database_url) as worker:
        await people(worker, "late")
        mails = [effect.subject for effect in await foreseen(worker, catalogue=catalogue) if effect.kind == "mail"]
        assert mails == ["claw_suspended_payment", "claw_destruction_warning"]


async def test_kc_79_what_follows_from_a_sweep_that_causes_nothing_itself_is_listed_too(database_url: str) -> None:
    """A renewal that ends a canceled row lists nothing; the same tick's next sweep suspends that row."""
    over = {"current_period_end": NOW - HOUR, "credit_renewal_at": NOW - HOUR, "cancel_at_period_end": True}
    async with acting(database_url) as worker:
        await worker.decider.decide([having(a_paid_row(**NO_STRIPE | over))])
        effects = await foreseen(worker)
        assert told(effects) == {
            ("ada", "suspension", "inst-ada"),
            ("ada", "mail", "claw_suspended_subscription"),
        }
        for sweep in SWEEPS:
            await worker.sweep(sweep)
        assert await worker.mails() == [("claw_suspended_subscription", "pending")]


async def test_kc_79_every_period_that_a_tick_would_charge_is_looked_at(database_url: str) -> None:
    """A row three months behind with money for two is past due in the end (CR-32)."""
    behind = a_credit_row(current_period_end=NOW - 70 * DAY, credit_renewal_at=NOW - 70 * DAY)
    async with acting(database_url) as worker:
        await hosted(worker, behind, 50)
        assert told(await foreseen(worker)) == {("ada", "mail", "claw_credit_renewal_failed")}


async def skipped(worker: Acting, *names: str) -> None:
    """Their mails are decided while none can be sent."""
    await people(worker, *names)
    for name in names:
        for sweep in SWEEPS:
            await worker.sweep(sweep, name)
    await worker.fetch("UPDATE steps SET state = 'skipped', settled_at = $1 WHERE kind = 'send_mail'", NOW)
    await worker.fetch("UPDATE users SET email = user_id || '@example.com'")


async def test_kc_79_kc_88_skipped_mails_that_are_still_true_are_listed(database_url: str) -> None:
    async with acting(database_url) as worker:
        await skipped(worker, "trial", "warned", "late")
        await worker.fetch(
            "UPDATE kiloclaw_subscriptions SET suspended_at = NULL, destruction_deadline = NULL "
            "WHERE account_key = 'user:late'"
        )
        before = await everything(worker)
        effects = await foreseen(worker, "steps")
        assert told(effects) == {("trial", "mail", "claw_suspended_trial"), ("warned", "mail", "claw_trial_5d")}
        assert {(effect.sweep, effect.condition) for effect in effects} == {("steps", IF_CONFIGURED)}
        assert await everything(worker) == before


async def test_kc_88_a_skipped_mail_that_the_same_tick_makes_untrue_is_not_listed(database_url: str) -> None:
    async with acting(database_url) as worker:
        await skipped(worker, "warned")
        over = await foreseen(worker, at=NOW + 3 * DAY)
        assert ("warned", "mail", "claw_trial_5d") not in told(over)
        assert ("warned", "suspension", "inst-warned") in told(over)


async def test_kc_79_pages_go_on_where_the_last_one_ended_and_list_everyone_once(database_url: str) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([having(ROWS["trial"], f"u{number}") for number in range(150)])
        run, place, listed = DryRun("hourly", CATALOGUE, 1), Place(NOW), list[str]()
        await worker.fetch("UPDATE kiloclaw_subscriptions SET partition = 0")
        answers = 0
        async with worker.decider.pool.acquire() as connection:
            following: Place | None = place
            while following:
                effects, following = await run.effects(connection, Place.of(following.token()), 10)
                listed += [effect.account_key for effect in effects if effect.kind == "suspension"]
                answers += 1
        assert len(listed) == len(set(listed)) == 150
        assert answers == 4


@pytest.mark.parametrize("token", ["", "x", "W10=", "WzEsMl0=", "é"])
def test_what_is_no_place_is_refused(token: str) -> None:
    with pytest.raises(ValueError, match="not a place"):
        Place.of(token)
