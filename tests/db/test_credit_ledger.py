"""What the ledger refuses from inside the database (CR-1…CR-3), tried with plain SQL."""

from typing import Any

import asyncpg
import pytest

from bursar.billing.credits.ledger import Credits, Entry, EntryKind
from bursar.db import credits as ledger
from bursar.db.connections import Connection
from bursar.db.early_reversals import keys_of_payments

DOLLAR = 1_000_000
POST = """
    INSERT INTO credit_transactions
        (user_id, amount_microdollars, kind, description, business_key, payment_id, cause, created_at)
    SELECT $1, amount * 1000000, kind, 'a test', key, payment, 'test', now()
    FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[]) AS posted (amount, kind, key, payment)
    """
Line = tuple[int, str, str, str | None]


async def post(connection: Connection, *lines: Line, user: str = "ada") -> None:
    """Entries in one statement: dollars, kind, business key, payment."""
    await connection.execute(POST, user, *[[line[column] for line in lines] for column in range(4)])


def deposit(dollars: int, payment: str = "pi_1") -> Line:
    return dollars, "deposit", f"deposit:{payment}", payment


def charge(dollars: int, key: str = "charge:1") -> Line:
    return -dollars, "charge", key, None


async def counters(connection: Connection, user: str = "ada") -> tuple[int, int, int]:
    """Acquired, used and balance, in dollars."""
    said = await ledger.statement(connection, user)
    return said.acquired_microdollars // DOLLAR, said.used_microdollars // DOLLAR, said.balance_microdollars // DOLLAR


async def refused_by(connection: Connection, constraint: str, *lines: Line) -> None:
    before = await counters(connection)
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as refused:
        await post(connection, *lines)
    assert refused.value.constraint_name == constraint
    assert await counters(connection) == before


async def test_cr_1_the_counters_move_with_the_entries(connection: Connection) -> None:
    await post(connection, deposit(20))
    await post(connection, charge(5), deposit(10, "pi_2"))
    await post(connection, (-4, "refund", "refund:1", "pi_1"))
    await post(connection, deposit(7, "pi_3"), user="eve")

    assert await counters(connection) == (26, 5, 21)
    assert await counters(connection, "eve") == (7, 0, 7)
    assert await counters(connection, "nobody") == (0, 0, 0)


async def test_many_accounts_are_loaded_at_once_each_with_its_newest_entries_oldest_first(
    connection: Connection,
) -> None:
    """At most a thousand, whose sum is not the balance then; the counters are whole (CR-1, CR-4)."""
    many = [deposit(1, f"pi_{number}") for number in range(ledger.MAX_ENTRIES_LOADED + 2)]
    await post(connection, *many)
    await post(connection, deposit(9, "pi_eve"), charge(4), user="eve")
    await connection.execute(
        """
        INSERT INTO credit_mismatches
            (user_id, acquired_difference_microdollars, used_difference_microdollars, found_at, cleared_at, cleared_by,
            reason)
        VALUES ('eve', 1, 0, now(), NULL, NULL, NULL), ('eve', 2, 0, now(), now(), 'ops', 'seen'),
            ('ada', 3, 0, now(), now(), 'ops', 'seen')
        """
    )

    keys = ["customer:cus_1", "user:nobody", "user:eve", "user:ada"]
    loaded = await ledger.load(connection, keys)

    assert list(loaded) == keys
    assert loaded["customer:cus_1"] == loaded["user:nobody"] == Credits()
    assert loaded["user:eve"] == Credits(
        acquired_microdollars=9 * DOLLAR,
        used_microdollars=4 * DOLLAR,
        entries=(entry_of(deposit(9, "pi_eve")), entry_of(charge(4))),
        charges_stopped=True,
    )
    assert loaded["user:ada"] == Credits(
        acquired_microdollars=len(many) * DOLLAR, entries=tuple(map(entry_of, many[2:])), charges_stopped=False
    )


def entry_of(line: Line) -> Entry:
    dollars, kind, business_key, payment_id = line
    return Entry(
        kind=EntryKind(kind),
        amount_microdollars=dollars * DOLLAR,
        description="a test",
        business_key=business_key,
        cause="test",
        payment_id=payment_id,
    )


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE credit_transactions SET amount_microdollars = 99",
        "UPDATE credit_transactions SET description = 'rewritten'",
        "UPDATE credit_transactions SET user_id = 'eve'",
        "UPDATE credit_transactions SET business_key = 'free'",
        "DELETE FROM credit_transactions",
        "TRUNCATE credit_transactions",
        "UPDATE credit_accounts SET acquired_microdollars = acquired_microdollars + 1",
        "UPDATE credit_accounts SET used_microdollars = 0",
        "UPDATE credit_accounts SET user_id = 'eve'",
        "INSERT INTO credit_accounts VALUES ('eve', 5000000, 0)",
        "INSERT INTO credit_accounts VALUES ('ada', 0, 0) ON CONFLICT (user_id) DO UPDATE SET used_microdollars = 0",
        "DELETE FROM credit_accounts",
        "TRUNCATE credit_accounts CASCADE",
    ],
)
async def test_cr_1_what_is_written_stays_and_counters_move_with_entries_only(
    connection: Connection, statement: str
) -> None:
    await post(connection, deposit(20), charge(5))

    with pytest.raises(asyncpg.RestrictViolationError) as refused:
        await connection.execute(statement)

    assert refused.value.constraint_name == "credits_are_append_only"
    assert await counters(connection) == (20, 5, 15)
    assert await connection.fetchval("SELECT count(*) FROM credit_transactions") == 2


async def test_cr_2_a_charge_leaves_no_balance_below_zero(connection: Connection) -> None:
    await refused_by(connection, "charge_within_balance", charge(1))
    await post(connection, deposit(20))
    await refused_by(connection, "charge_within_balance", charge(21))
    await refused_by(connection, "charge_within_balance", charge(15), charge(6, "charge:2"))
    await post(connection, charge(20))

    assert await counters(connection) == (20, 20, 0)


async def test_cr_2_money_that_comes_later_in_the_statement_does_not_pay_for_a_charge_before_it(
    connection: Connection,
) -> None:
    await refused_by(connection, "charge_within_balance", charge(5), deposit(20))
    await post(connection, deposit(20), charge(5))


@pytest.mark.parametrize("kind", ["refund", "dispute"])
async def test_cr_2_only_a_refund_or_a_lost_dispute_takes_the_balance_below_zero_and_no_charge_deeper(
    connection: Connection, kind: str
) -> None:
    await post(connection, deposit(20), charge(15))
    await post(connection, (-20, kind, "taken back", "pi_1"))
    assert await counters(connection) == (0, 15, -15)

    await refused_by(connection, "charge_within_balance", charge(1, "charge:2"))
    await post(connection, deposit(5, "pi_2"))
    await refused_by(connection, "charge_within_balance", charge(1, "charge:2"))


@pytest.mark.parametrize("sign", [1, -1])
async def test_cr_2_a_neutral_pair_passes_whatever_the_balance(connection: Connection, sign: int) -> None:
    await post(connection, deposit(5), (-20, "refund", "refund:1", "pi_1"))
    pair = [
        (25 * sign, "settlement_deposit", "settled", "ch_1"),
        (-25 * sign, "settlement_charge", "settled:charge", "ch_1"),
    ]
    await post(connection, *pair)

    assert await counters(connection) == (-15 + 25 * sign, 25 * sign, -15)


@pytest.mark.parametrize(
    "lines",
    [
        [(25, "settlement_deposit", "a", "ch_1")],
        [(-25, "settlement_charge", "a", "ch_1")],
        [(25, "settlement_deposit", "a", "ch_1"), (-24, "settlement_charge", "b", "ch_1")],
        [(25, "settlement_deposit", "a", "ch_1"), (-25, "settlement_charge", "b", "ch_2")],
    ],
)
async def test_cr_2_a_settlement_that_is_not_neutral_is_refused(connection: Connection, lines: list[Line]) -> None:
    await post(connection, deposit(100))
    await refused_by(connection, "settlement_is_neutral", *lines)


async def test_cr_3_a_second_entry_for_the_same_thing_is_refused(connection: Connection) -> None:
    await post(connection, deposit(20))
    await refused_by(connection, "credit_transactions_business_key", deposit(20))

    with pytest.raises(asyncpg.UniqueViolationError):
        await post(connection, deposit(20), user="eve")


@pytest.mark.parametrize(
    ("line", "constraint"),
    [
        ((-5, "deposit", "a", "pi_1"), "entry_has_the_sign_of_its_kind"),
        ((5, "charge", "a", None), "entry_has_the_sign_of_its_kind"),
        ((5, "refund", "a", "pi_1"), "entry_has_the_sign_of_its_kind"),
        ((0, "settlement_deposit", "a", "pi_1"), "entry_has_the_sign_of_its_kind"),
        ((5, "gift", "a", "pi_1"), "entry_has_a_known_kind"),
        ((5, "deposit", "a", None), "payment_is_named"),
    ],
)
async def test_cr_1_an_entry_has_a_known_kind_its_sign_and_its_payment(
    connection: Connection, line: Line, constraint: str
) -> None:
    await refused_by(connection, constraint, line)


async def test_cr_1_what_is_undone_moves_nothing(connection: Connection) -> None:
    await post(connection, deposit(20))
    transaction = connection.transaction()
    await transaction.start()
    await post(connection, charge(5))
    await transaction.rollback()

    assert await counters(connection) == (20, 0, 20)


async def test_kc_121_a_tombstone_takes_the_place_of_the_id_and_nothing_else_changes(connection: Connection) -> None:
    await post(connection, deposit(20), charge(5))
    await post(connection, deposit(7, "pi_2"), user="eve")
    before = await lines_of(connection)
    async with connection.transaction():
        assert await ledger.bury(connection, "ada", "deleted:1") == 2

    assert await lines_of(connection) == before
    assert await counters(connection, "deleted:1") == (20, 5, 15)
    assert await counters(connection, "ada") == (0, 0, 0)
    assert await counters(connection, "eve") == (7, 0, 7)
    assert await ledger.bury(connection, "ada", "deleted:1") == 0, "a second time does nothing"
    assert await keys_of_payments(connection, ["pi_1", "pi_2"]) == {"pi_2": "user:eve"}
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute("UPDATE credit_transactions SET user_id = 'ada' WHERE user_id = 'deleted:1'")


async def test_kc_121_who_comes_back_and_is_deleted_again_has_the_same_tombstone(connection: Connection) -> None:
    for payment in ("pi_1", "pi_2"):
        await post(connection, deposit(20, payment), charge(5, f"charge:{payment}"))
        async with connection.transaction():
            assert await ledger.bury(connection, "ada", "deleted:1") == 2

    assert await counters(connection, "deleted:1") == (40, 10, 30)
    assert await connection.fetch("SELECT user_id FROM credit_accounts") == [("deleted:1",)]


async def lines_of(connection: Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch("SELECT id, amount_microdollars, kind, business_key FROM credit_transactions")
    return sorted(map(tuple, rows))


async def test_cr_4_charges_are_stopped_even_where_the_counters_are_gone(connection: Connection) -> None:
    """A mismatch is loaded whether or not the user has counters: they may be what is wrong."""
    await connection.execute(
        """
        INSERT INTO credit_mismatches
            (user_id, acquired_difference_microdollars, used_difference_microdollars, found_at)
        VALUES ('ada', 1, 0, now())
        """
    )
    loaded = await ledger.load(connection, ["user:ada", "user:eve", "customer:cus_1"])

    assert {key: part.charges_stopped for key, part in loaded.items()} == {
        "user:ada": True,
        "user:eve": False,
        "customer:cus_1": False,
    }
    assert loaded["user:ada"].entries == ()
