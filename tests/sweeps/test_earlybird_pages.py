"""The sweep of earlybird warnings on a real database (KC-76)."""

from typing import Any

import pytest

from bursar.db.connections import Connection
from bursar.handlers.kiloclaw_commands import earlybird_item
from bursar.sweeps.table import due_page
from tests.billing.kiloclaw.making import CATALOGUE, DAY, HOUR, NOW, a_paid_row
from tests.service.steps.acting import acting, having
from tests.sweeps.due import all_pages, key, make_rows, window
from tests.sweeps.explaining import INDEX_OF, PLAN_MODES, explained_page
from tests.sweeps.test_due_pages import found_at, warn

END = CATALOGUE.kiloclaw.earlybird.access_until
SWEEP = "earlybird_warning"
PAID = {"status": "'active'"}
ENDED = {"status": "'canceled'"}


async def buy(connection: Connection, prefix: str) -> None:
    """Everyone of the prefix bought earlybird access."""
    await connection.execute(
        """
        INSERT INTO kiloclaw_earlybird_purchases (user_id, payment_id, purchased_at, account_key, partition)
        SELECT substr(key, 6), 'pi_' || key, $2, key, partition FROM accounts WHERE key LIKE 'user:' || $1 || '%'
        """,
        prefix,
        NOW,
    )


async def without_rows(connection: Connection, prefix: str) -> None:
    await connection.execute("DELETE FROM kiloclaw_subscriptions WHERE user_id LIKE $1 || '%'", prefix)


async def test_kc_76_it_finds_purchases_without_an_active_or_trialing_row(connection: Connection) -> None:
    for prefix, columns in {"ended": ENDED, "paid": PAID, "never": PAID, "nothing": ENDED}.items():
        await make_rows(connection, 2, prefix=prefix, **columns)
        if prefix != "nothing":
            await buy(connection, prefix)
    await without_rows(connection, "never")

    assert await found_at(connection, SWEEP, END - 15 * DAY) == []
    expected = {key(prefix, number) for prefix in ("ended", "never") for number in (1, 2)}
    assert set(await found_at(connection, SWEEP, END - 14 * DAY)) == expected
    assert await found_at(connection, SWEEP, END) == []


async def test_kc_76_who_was_warned_is_found_again_for_the_last_warning_only(connection: Connection) -> None:
    await make_rows(connection, 2, **ENDED)
    await buy(connection, "many")
    await warn(connection, key("many", 1), "claw_earlybird_14d", NOW)
    assert await found_at(connection, SWEEP, END - 2 * DAY) == [key("many", 2)]
    assert await found_at(connection, SWEEP, END - HOUR) == [key("many", 1), key("many", 2)]


@pytest.mark.parametrize("mode", PLAN_MODES)
async def test_kc_80_it_walks_its_index_page_by_page(connection: Connection, database_url: str, mode: str) -> None:
    await make_rows(connection, 16_000, **PAID)
    await make_rows(connection, 16_000, prefix="bought", **ENDED)
    await buy(connection, "bought")
    for mail, accounts in {"claw_earlybird_1d": "user:many%", "claw_earlybird_14d": "user:%"}.items():
        await connection.execute(
            """
            INSERT INTO kiloclaw_email_log (user_id, account_key, email_type, decided_at)
            SELECT substr(key, 6), key, $1, $3 FROM accounts WHERE key LIKE $2
            """,
            mail,
            accounts,
            NOW,
        )
    await connection.execute("VACUUM ANALYZE")
    at = window(END - DAY, 5)
    first = await explained_page(database_url, SWEEP, at, mode)

    assert INDEX_OF[SWEEP] in first.plan, first.plan
    assert "Seq Scan" not in first.plan, first.plan
    assert first.buffers < 64 * 10, first.plan
    pages = await all_pages(connection, SWEEP, at)
    keys = [one for page in pages for one in page.keys]
    assert len(keys) == 500
    assert keys == sorted(set(keys))


async def test_kc_76_a_purchase_through_the_api_is_warned_of_once_and_the_mail_says_the_day(database_url: str) -> None:
    async with acting(database_url) as worker:
        await worker.decider.decide([having(a_paid_row())])
        await worker.decider.decide([earlybird_item("command:1", "ada", "pi_1", CATALOGUE)])
        await worker.fetch("UPDATE kiloclaw_subscriptions SET status = 'canceled'")
        worker.clock.now = END - HOUR
        async with worker.decider.pool.acquire() as connection:
            assert await found_at(connection, SWEEP, END - HOUR) == ["user:ada"]
        for _ in range(2):
            await worker.sweep(SWEEP)
        await worker.do_mails()

        assert await worker.mails() == [("claw_earlybird_1d", "sent")]
        (mail,) = worker.mail.sent
        assert "26 September 2026" in mail.text


async def test_kc_76_nobody_is_asked_about_before_the_warnings_are_due() -> None:
    class Unused:
        async def fetch(self, *_: Any) -> list[Any]:
            raise AssertionError

    assert (await due_page(Unused(), SWEEP, window(END - 15 * DAY))).keys == ()
