"""What is loaded of a ledger for items that ask about certain payments only: no more from year to year (CR-53)."""

from collections.abc import Mapping
from typing import Any

import pytest

from bursar.billing.account import Account
from bursar.billing.credits.ledger import Credits
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.values import replace
from bursar.db import credits as ledger
from bursar.db.connections import Connection
from bursar.db.items import OutcomeState
from tests.db.deciding import a_decider, an_item
from tests.db.test_credit_ledger import DOLLAR, Line, charge, deposit, post

ASKED = frozenset({"in_new", "ch_new"})
OLD_KEY = "kiloclaw-settlement:sub_1:2026-01-01"


def settled(invoice: str) -> list[Line]:
    key = f"settlement:{invoice}"
    return [(9, "settlement_deposit", key, invoice), (-9, "settlement_charge", f"{key}:charge", invoice)]


async def loaded(connection: Connection, asked: Mapping[str, frozenset[str] | None]) -> Mapping[str, Credits]:
    return await ledger.load(connection, sorted(asked), asked)


async def test_cr_53_nothing_of_a_ledger_is_loaded_that_knows_none_of_the_payments(connection: Connection) -> None:
    await post(connection, deposit(20), charge(5), *settled("in_1"))
    await post(connection, *settled("in_new"), user="eve")

    found = await loaded(connection, {"user:ada": ASKED})

    assert found["user:ada"] == Credits(29 * DOLLAR, 14 * DOLLAR, entries=(), of_payments=ASKED)


async def test_cr_53_a_ledger_that_knows_one_of_the_payments_is_loaded_whole(connection: Connection) -> None:
    await post(connection, deposit(20), charge(5), *settled("ch_new"))
    await post(connection, deposit(7, "pi_eve"), user="eve")

    found = await loaded(connection, {"user:ada": ASKED, "user:eve": None, "user:bob": ASKED})

    assert [one.business_key for one in found["user:ada"].entries] == [
        "deposit:pi_1",
        "charge:1",
        "settlement:ch_new",
        "settlement:ch_new:charge",
    ]
    assert [one.business_key for one in found["user:eve"].entries] == ["deposit:pi_eve"]
    assert [found[f"user:{user}"].of_payments for user in ("ada", "eve", "bob")] == [None, None, ASKED]


async def test_cr_54_the_old_settlements_are_always_loaded(connection: Connection) -> None:
    old = (9, "deposit", f"{OLD_KEY}:ch_1", "ch_1"), (-9, "charge", f"{OLD_KEY}:charge", None)
    await post(connection, *old, deposit(20), charge(5), *settled("in_1"))

    found = (await loaded(connection, {"user:ada": ASKED}))["user:ada"]

    assert [one.business_key for one in found.entries] == [key for _, _, key, _ in old]
    assert found.old_settlements(OLD_KEY) == found.entries
    assert found.of_payment(ASKED) == ()


@pytest.mark.parametrize("plan_cache_mode", ["force_generic_plan", "force_custom_plan"])
async def test_what_loading_reads_does_not_grow_with_the_ledger(connection: Connection, plan_cache_mode: str) -> None:
    await post(connection, *[line for number in range(400) for line in settled(f"in_{number}")])
    await post(connection, *settled("in_eve"), user="eve")
    await connection.execute("ANALYZE credit_transactions")

    for key in ("user:ada", "user:eve"):
        assert await entries_read(connection, key, plan_cache_mode) == {}


async def entries_read(connection: Connection, key: str, plan_cache_mode: str) -> dict[str, int]:
    """How many rows or index entries of the ledger's loading the account looks at, by table and index."""
    counted = """
        SELECT relid::regclass::text, pg_stat_get_xact_tuples_returned(relid) FROM (
            SELECT 'credit_transactions'::regclass::oid AS relid
            UNION SELECT indexrelid FROM pg_index WHERE indrelid = 'credit_transactions'::regclass) AS relations
        """
    async with connection.transaction():
        await connection.execute(f"SET LOCAL plan_cache_mode = {plan_cache_mode}")
        before = dict(await connection.fetch(counted))
        await loaded(connection, {key: ASKED})
        return {name: read - before[name] for name, read in await connection.fetch(counted) if read > before[name]}


async def test_an_account_is_loaded_for_all_that_its_items_ask_for_and_no_more(database_url: str) -> None:
    """Whole where an item that needs it cannot say what it will ask for. An invoice that does without settles where
    there is one, so that its payment is asked about, too. None where nobody of the account needs it.
    """
    seen = dict[str, Any]()

    def seeing(item_id: str) -> Any:
        def decide(account: Account) -> Decision:
            credit = account.parts.get(Credits)
            seen[item_id] = credit.of_payments if credit is not None else "none"
            return Decision.nothing(account, "seen")

        return decide

    hosting, both = frozenset[type[Any]]({Hosting}), frozenset[type[Any]]({Hosting, Credits})
    asking = [
        ("evt_1", "ada", both, frozenset({"in_1"})),
        ("evt_2", "ada", both, frozenset({"in_2"})),
        ("evt_3", "eve", both, frozenset({"in_3"})),
        ("evt_4", "eve", both, None),
        ("evt_5", "bob", hosting, None),
        ("evt_6", "cat", both, frozenset({"in_6"})),
        ("evt_7", "cat", hosting, None),
        ("evt_8", "dan", hosting, frozenset({"in_8"})),
        ("evt_9", "dan", both, frozenset({"in_9"})),
    ]
    items = [
        replace(an_item(item_id, user, seeing(item_id), payments=payments), parts=parts)
        for item_id, user, parts, payments in asking
    ]
    async with a_decider(database_url) as decider:
        outcomes = await decider.decide(items)

    assert {one.state for one in outcomes} == {OutcomeState.APPLIED}
    assert [seen[one] for one in ("evt_1", "evt_2")] == [frozenset({"in_1", "in_2"})] * 2
    assert [seen[one] for one in ("evt_8", "evt_9")] == [frozenset({"in_8", "in_9"})] * 2
    assert [seen[one] for one in ("evt_6", "evt_7")] == [frozenset({"in_6"})] * 2
    assert [seen[one] for one in ("evt_3", "evt_4")] == [None] * 2
    assert seen["evt_5"] == "none"
