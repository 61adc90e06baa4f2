"""A paid period moves a row without touching an index of its table: each would cost a part of what the row costs."""

from collections.abc import Sequence

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.values import replace
from bursar.db.connections import Connection
from bursar.db.decide import decide_batch
from bursar.db.items import Outcome, Situation
from tests.billing.kiloclaw.making import DAY, NOW, a_paid_row
from tests.db.deciding import REAL_NOW, a_decider, an_item

HYBRID = a_paid_row(payment_source="credits", credit_renewal_at=NOW + 30 * DAY, settled_at=NOW)


def told(account: Account) -> Decision:
    return Decision(with_row(account, HYBRID), reason="created")


def paid(account: Account) -> Decision:
    """The row as the next period's payment leaves it."""
    row = hosting_of(account).subscription
    assert row
    assert row.current_period_end
    ends_at = row.current_period_end + 30 * DAY
    moved = replace(row, current_period_start=row.current_period_end, current_period_end=ends_at)
    return Decision(
        with_row(account, replace(moved, credit_renewal_at=ends_at, version=row.version + 1)), reason="paid"
    )


async def test_kc_80_a_paid_period_touches_none_of_the_indexes_that_the_sweeps_walk(database_url: str) -> None:
    updates: list[tuple[int, int]] = []

    async def count(connection: Connection, _: Sequence[Outcome]) -> None:
        row = await connection.fetchrow(
            """
            SELECT pg_stat_get_xact_tuples_updated('kiloclaw_subscriptions'::regclass),
                pg_stat_get_xact_tuples_hot_updated('kiloclaw_subscriptions'::regclass)
            """
        )
        updates.append(tuple(row))

    async with a_decider(database_url) as decider, decider.pool.acquire() as connection:
        await decider.decide([an_item("evt_1", decide=told)])
        for number in range(2, 6):
            item = an_item(f"evt_{number}", decide=paid)
            await decide_batch(connection, [item], Situation(NOW, REAL_NOW), decider.limits, count)

    assert updates[-1][0] > 0
    assert all(every == without_index for every, without_index in updates)
