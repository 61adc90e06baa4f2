"""Events remembered for a Stripe customer before its user was known (KC-31)."""

from bursar.db.connections import Connection


async def move(connection: Connection, from_key: str, to_key: str) -> int:
    """Give what is remembered under one account to another; returns how many. The caller holds both locks."""
    status = await connection.execute(
        "UPDATE early_events SET account_key = $2 WHERE account_key = $1", from_key, to_key
    )
    return int(status.rpartition(" ")[2])
