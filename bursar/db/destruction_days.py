"""The daily cap of destructions (KC-74): shared stock, claimed last, at save."""

from datetime import datetime

from bursar.db.connections import Connection


async def claim_slots(connection: Connection, now: datetime, wanted: int, cap: int) -> int:
    """Claim up to `wanted` of the day's destructions; returns how many were left to claim. The row stays locked until
    commit.
    """
    day = now.date()
    await connection.execute(
        "INSERT INTO destruction_days (day, used) VALUES ($1, 0) ON CONFLICT (day) DO NOTHING", day
    )
    used = await connection.fetchval("SELECT used FROM destruction_days WHERE day = $1 FOR UPDATE", day)
    granted = max(0, min(wanted, cap - int(used)))
    await connection.execute("UPDATE destruction_days SET used = used + $2 WHERE day = $1", day, granted)
    return granted


async def slots_used(connection: Connection, now: datetime) -> int:
    """How many of the day's destructions are used."""
    used: int | None = await connection.fetchval("SELECT used FROM destruction_days WHERE day = $1", now.date())
    return used or 0
