"""A long batch lets others have a turn: whom the database answered meanwhile would keep it waiting else (MS-5)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.db.batches import ITEMS_A_TURN, MAX_ITEMS
from tests.db.deciding import a_decider, an_item

LONGEST_BESIDE_OTHERS = 2 * ITEMS_A_TURN  # a turn may begin anywhere


@asynccontextmanager
async def turns() -> AsyncIterator[Callable[[], int]]:
    """How many turns somebody else has had so far."""
    had = 0

    async def take() -> None:
        nonlocal had
        while True:
            had += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(take())
    try:
        yield lambda: had
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def longest_in_a_row(seen: list[int]) -> int:
    return max(seen.count(turn) for turn in set(seen))


async def test_ms_5_a_batch_that_is_decided_lets_others_have_their_turns(database_url: str) -> None:
    seen: list[int] = []
    async with a_decider(database_url) as decider, turns() as had:

        def decide(account: Account) -> Decision:
            seen.append(had())
            return Decision.nothing(account, "seen")

        await decider.decide([an_item(f"evt_{number}", f"user{number}", decide) for number in range(MAX_ITEMS)])

    assert len(seen) == MAX_ITEMS
    assert longest_in_a_row(seen) <= LONGEST_BESIDE_OTHERS
