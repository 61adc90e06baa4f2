"""Renewals that fail for a reason nobody foresaw: the database refuses their charge until it is told not to."""

from bursar.db.connections import Connection

BREAK = """
    CREATE FUNCTION fail_renewals() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION USING ERRCODE = 'check_violation', MESSAGE = 'ada@example.com sk_test_secret';
    END $$;
    CREATE TRIGGER fail_renewals BEFORE INSERT ON credit_transactions FOR EACH ROW
        WHEN (NEW.user_id = 'ada' AND NEW.business_key LIKE 'kiloclaw-renewal:%') EXECUTE FUNCTION fail_renewals();
"""


async def break_renewals(connection: Connection) -> None:
    """From now on every charge of a renewal of Ada's fails."""
    await connection.execute(BREAK)


async def mend_renewals(connection: Connection) -> None:
    """From now on they are made again."""
    await connection.execute("DROP TRIGGER fail_renewals ON credit_transactions; DROP FUNCTION fail_renewals")
