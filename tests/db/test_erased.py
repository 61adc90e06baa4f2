"""Names of deleted users are known again by their keyed digests (KC-121)."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.db import erased
from bursar.db.connections import Connection
from bursar.db.decide import Limits, decide_batch
from bursar.db.items import OutcomeState, Situation
from tests.billing.kiloclaw.making import NOW
from tests.db.deciding import REAL_NOW, an_item

MANY = 20_000


async def test_kc_121_a_name_is_known_again_until_the_product_tells_of_it(connection: asyncpg.Connection) -> None:
    await erased.mark(connection, ["user:ada", "customer:cus_1"], REAL_NOW)
    await erased.mark(connection, ["user:ada"], REAL_NOW)
    assert await erased.among(connection, ["user:ada", "customer:cus_1", "user:grace"]) == {
        "user:ada",
        "customer:cus_1",
    }
    await erased.unmark(connection, ["user:ada", "user:grace"])
    assert await erased.among(connection, ["user:ada", "customer:cus_1"]) == {"customer:cus_1"}


async def test_kc_121_without_the_key_nobody_can_tell_whom_a_tombstone_stands_for(
    connection: asyncpg.Connection,
) -> None:
    first = await erased.tombstone(connection, "user:ada")
    assert first == await erased.tombstone(connection, "user:ada")
    assert first != await erased.tombstone(connection, "user:grace")
    await connection.execute("UPDATE erasure_key SET key = sha256(key)")
    assert await erased.tombstone(connection, "user:ada") != first


async def test_a_look_up_reads_no_more_however_many_were_deleted(connection: asyncpg.Connection) -> None:
    """Each batch of messages makes one."""
    await erased.mark(connection, [f"user:{number}" for number in range(MANY)], REAL_NOW)
    await connection.execute("ANALYZE erased")
    async with connection.transaction():
        await erased.among(connection, [f"user:x{number}" for number in range(256)])
        scans = await connection.fetchval("SELECT seq_tup_read FROM pg_stat_xact_user_tables WHERE relname = 'erased'")
    assert scans == 0


@dataclass
class Interrupted:
    """A connection on which something else commits right after the accounts were locked for the nth time."""

    connection: Connection
    after_locks: int
    meanwhile: Callable[[], Awaitable[None]]
    locks: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.connection, name)

    async def fetch(self, query: str, *arguments: Any) -> Any:
        rows = await self.connection.fetch(query, *arguments)
        if "FROM accounts" in query and "FOR UPDATE" in query:
            self.locks += 1
            if self.locks == self.after_locks:
                await self.meanwhile()
        return rows


@pytest.mark.parametrize("after_locks", [1, 2])
async def test_kc_121_a_user_who_comes_back_between_two_look_ups_is_decided_with_an_account_or_not_at_all(
    connection: Connection, database_url: str, after_locks: int
) -> None:
    await erased.mark(connection, ["user:ada"], REAL_NOW)
    decided: list[str] = []

    def decide(account: Account) -> Decision:
        decided.append(account.key)
        return Decision.nothing(account, "seen")

    async def come_back() -> None:
        other = await asyncpg.connect(database_url)
        await erased.unmark(other, ["user:ada"])
        await other.close()

    interrupted: Any = Interrupted(connection, after_locks, come_back)
    item = an_item("evt_1", decide=decide)
    [outcome] = await decide_batch(interrupted, [item], Situation(NOW, REAL_NOW), Limits(32, 500))
    assert outcome.state is OutcomeState.APPLIED
    assert await connection.fetch("SELECT key FROM accounts") == [(key,) for key in decided]
