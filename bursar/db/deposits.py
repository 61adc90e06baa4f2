"""Whether a payment is in the ledger, whoever's it is by now."""

from bursar.db.connections import Connection


async def is_deposited(connection: Connection, payment_id: str) -> bool:
    """Whether the payment was deposited: also for a user who was deleted since (KC-121)."""
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM credit_transactions WHERE business_key = 'deposit:' || $1)", payment_id
    )
    return found
