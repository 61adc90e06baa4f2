"""What the database itself refuses (KC-1, KC-2, KC-3), tried with plain SQL."""

import asyncpg
import pytest

from bursar.db.connections import Connection

TRIAL = {
    "plan": "'trial'",
    "status": "'trialing'",
    "trial_started_at": "now()",
    "trial_ends_at": "now() + interval '30 days'",
}
PAID = {
    "plan": "'standard'",
    "status": "'active'",
    "payment_source": "'stripe'",
    "stripe_subscription_id": "'sub_1'",
    "current_period_start": "now()",
    "current_period_end": "now() + interval '30 days'",
}
PURE_CREDIT = PAID | {"payment_source": "'credits'", "stripe_subscription_id": "NULL", "credit_renewal_at": "now()"}


async def insert(connection: Connection, columns: dict[str, str], user: str = "ada") -> None:
    await connection.execute("INSERT INTO accounts VALUES ($1, 0) ON CONFLICT DO NOTHING", f"user:{user}")
    fixed = {
        "id": "gen_random_uuid()",
        "user_id": f"'{user}'",
        "account_key": f"'user:{user}'",
        "partition": "0",
        "version": "1",
        "created_at": "now()",
    }
    values = fixed | columns
    await connection.execute(
        f"INSERT INTO kiloclaw_subscriptions ({', '.join(values)}) VALUES ({', '.join(values.values())})"  # noqa: S608
    )


@pytest.mark.parametrize("columns", [TRIAL, PAID, PURE_CREDIT], ids=["trial", "paid", "pure credit"])
async def test_kc_1_possible_rows_are_accepted(connection: Connection, columns: dict[str, str]) -> None:
    await insert(connection, columns)


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        (TRIAL | {"trial_ends_at": "NULL"}, "trial_has_both_instants"),
        (TRIAL | {"status": "'active'"}, "trial_is_trialing_or_canceled"),
        (TRIAL | {"payment_source": "'credits'", "credit_renewal_at": "now()"}, "trial_has_no_payment_source"),
        (PAID | {"status": "'trialing'"}, "trialing_is_a_trial"),
        (PAID | {"status": "'asleep'"}, "kiloclaw_subscriptions_status_check"),
        (PAID | {"stripe_subscription_id": "NULL"}, "direct_has_a_stripe_id"),
        (PAID | {"current_period_end": "NULL"}, "paid_has_a_period"),
        (PAID | {"status": "'past_due'"}, "dunning_has_a_beginning"),
        (PAID | {"past_due_since": "now()"}, "active_is_not_past_due"),
        (PAID | {"suspended_at": "now()"}, "active_is_not_suspended"),
        (PAID | {"status": "'canceled'", "destruction_deadline": "now()"}, "deadline_only_with_suspension"),
        (PAID | {"scheduled_plan": "'commit'"}, "schedule_is_whole"),
        (PURE_CREDIT | {"credit_renewal_at": "NULL"}, "pure_credit_has_a_renewal"),
    ],
)
async def test_kc_1_impossible_rows_are_refused(
    connection: Connection, columns: dict[str, str], constraint: str
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as refused:
        await insert(connection, columns)

    assert refused.value.constraint_name == constraint


@pytest.mark.parametrize("second", [{"user": "ada", "id": "sub_2"}, {"user": "eve", "id": "sub_1"}])
async def test_kc_1_one_row_per_user_and_per_stripe_subscription(
    connection: Connection, second: dict[str, str]
) -> None:
    await insert(connection, PAID)

    with pytest.raises(asyncpg.UniqueViolationError):
        await insert(connection, PAID | {"stripe_subscription_id": f"'{second['id']}'"}, second["user"])


async def test_kc_2_a_user_has_one_instance_that_is_not_destroyed(connection: Connection) -> None:
    await connection.execute("INSERT INTO accounts VALUES ('user:ada', 0), ('org:acme', 0)")
    add = """
        INSERT INTO kiloclaw_instances
            (id, account_key, partition, created_at, desired_state, generation, done_generation, destroyed_at,
             wanted_since, due_at)
        VALUES ($1, $2, 0, now(), $3, 1, 1, CASE WHEN $3 = 'destroyed' THEN now() END, now(), now())
        """
    await connection.execute(add, "gone", "user:ada", "destroyed")
    await connection.execute(add, "inst-1", "user:ada", "running")
    await connection.execute(add, "inst-2", "org:acme", "running")
    await connection.execute(add, "inst-3", "org:acme", "running")

    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(add, "inst-4", "user:ada", "running")


async def test_kc_3_a_mail_is_logged_once_per_user_type_and_cycle(connection: Connection) -> None:
    await connection.execute("INSERT INTO accounts VALUES ('user:ada', 0)")
    add = "INSERT INTO kiloclaw_email_log VALUES ('ada', 'user:ada', 'claw_suspended_payment', $1, now())"
    await connection.execute(add, "2026-06-01")
    await connection.execute(add, "2026-07-01")

    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(add, "2026-06-01")
