"""The sweep of renewals on a real database (CR-30)."""

import pytest

from bursar.db.connections import Connection
from bursar.db.renewal_failures import backlog
from tests.billing.kiloclaw.making import NOW
from tests.sweeps.due import PARTITIONS, all_pages, key, make_rows, window
from tests.sweeps.explaining import INDEX_OF, PLAN_MODES, explained, explained_page
from tests.sweeps.test_due_pages import found

SWEEP = "credit_renewal"
PURE_CREDIT = {"payment_source": "'credits'", "stripe_subscription_id": "NULL"}
REACHED = PURE_CREDIT | {"credit_renewal_at": "$3::timestamptz"}
AHEAD = PURE_CREDIT | {"credit_renewal_at": "$3::timestamptz + interval '1 day' + n * interval '1 second'"}


async def test_cr_30_it_finds_pure_credit_rows_active_or_past_due_whose_renewal_is_reached(
    connection: Connection,
) -> None:
    past_due = {"status": "'past_due'", "past_due_since": "$3::timestamptz"}
    await make_rows(connection, 2, prefix="due", **REACHED)
    await make_rows(connection, 2, prefix="late", **REACHED, **past_due)
    await make_rows(connection, 2, prefix="ahead", **AHEAD)
    await make_rows(connection, 2, prefix="ended", **REACHED, status="'canceled'")
    await make_rows(connection, 2, prefix="hybrid", payment_source="'credits'", credit_renewal_at="$3::timestamptz")
    await make_rows(connection, 2, prefix="direct")

    assert set(await found(connection, SWEEP)) == {
        key(prefix, number) for prefix in ("due", "late") for number in (1, 2)
    }


async def test_cr_30_pages_follow_each_other_oldest_first_and_tell_the_boundary(connection: Connection) -> None:
    ties = "$3::timestamptz - (n / 40) * interval '1 second'"  # many of the same instant
    await make_rows(connection, 6_400, **PURE_CREDIT, credit_renewal_at=ties)
    pages = await all_pages(connection, SWEEP, window(partition=5))

    # The last one is for rows that are still behind once they are renewed.
    assert [len(page.keys) for page in pages] == [64, 64, 64, 8, 0]
    rows = await connection.fetch(
        """
        SELECT account_key, credit_renewal_at FROM kiloclaw_subscriptions WHERE partition = 5
        ORDER BY credit_renewal_at, account_key
        """
    )
    found_at = [one for page in pages for one in zip(page.keys, page.instants, strict=True)]
    assert found_at == [tuple(row) for row in rows]


@pytest.mark.parametrize("mode", PLAN_MODES)
async def test_cr_30_it_walks_its_index_and_costs_what_is_due(
    connection: Connection, database_url: str, mode: str
) -> None:
    await make_rows(connection, 16_000, **AHEAD)
    await make_rows(connection, 16_000, prefix="direct")
    await make_rows(connection, 320, prefix="due", **REACHED)
    await connection.execute("VACUUM ANALYZE")
    page = await explained_page(database_url, SWEEP, window(), mode)

    assert INDEX_OF[SWEEP] in page.plan, page.plan
    assert "Seq Scan" not in page.plan, page.plan
    assert page.buffers < 100, page.plan
    counting = await explained(database_url, lambda one: backlog(one, NOW, PARTITIONS), mode)
    assert INDEX_OF[SWEEP] in counting.plan, counting.plan
    assert "Seq Scan" not in counting.plan, counting.plan
