import asyncio
from collections.abc import Sequence

import pytest

from bursar.db.items import Item, Outcome, OutcomeState
from bursar.service.deciding.decider import DatabaseUnavailable
from bursar.service.deciding.joint import JointDecider
from tests.db.deciding import an_item

LIMIT_SECONDS = 5.0


class SlowDecider:
    """Notes each batch, and answers once it is let go."""

    def __init__(self, *, fails: bool = False) -> None:
        self.batches: list[list[str]] = []
        self.go = asyncio.Event()
        self.second_began = asyncio.Event()
        self._fails = fails

    async def decide(self, items: Sequence[Item]) -> list[Outcome]:
        self.batches.append([item.id for item in items])
        if len(self.batches) > 1:
            self.second_began.set()
        await self.go.wait()
        if self._fails:
            raise DatabaseUnavailable("the database does not answer")
        return [Outcome(item, OutcomeState.APPLIED) for item in items]


class GatedDecider:
    """Each batch ends when it is told to; batches are named by their first item."""

    def __init__(self) -> None:
        self.gates: dict[str, asyncio.Event] = {}

    async def decide(self, items: Sequence[Item]) -> list[Outcome]:
        gate = self.gates[items[0].id] = asyncio.Event()
        await gate.wait()
        del self.gates[items[0].id]
        return [Outcome(item, OutcomeState.APPLIED) for item in items]

    async def after(self, ended: str) -> list[str]:
        """What is under way once that batch has ended."""
        self.gates[ended].set()
        await settled()
        return sorted(self.gates)


def joint(
    decider: SlowDecider | GatedDecider, max_batch: int = 4, at_once: int = 1, patience_seconds: float = 60.0
) -> JointDecider:
    return JointDecider(
        decider,  # type: ignore[arg-type]
        max_batch=max_batch,
        at_once=at_once,
        patience_seconds=patience_seconds,
    )


def request(name: str, size: int) -> list[Item]:
    return [an_item(f"{name}{number}") for number in range(size)]


async def asked(decider: JointDecider, *requests: list[Item]) -> list[asyncio.Task[list[Outcome]]]:
    """Each request as a caller of its own; the first is under way before the others come."""
    tasks = []
    for items in requests:
        tasks.append(asyncio.create_task(decider.decide(items)))
        await settled()
    return tasks


async def settled() -> None:
    """What was asked for is under way."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_in_meanwhile_is_decided_together_and_each_gets_its_own() -> None:
    slow = SlowDecider()
    tasks = await asked(joint(slow), request("a", 1), request("b", 2), request("c", 2))
    slow.go.set()
    answers = await asyncio.gather(*tasks)

    assert slow.batches == [["a0"], ["b0", "b1", "c0", "c1"]]
    assert [[outcome.item.id for outcome in answer] for answer in answers] == [["a0"], ["b0", "b1"], ["c0", "c1"]]


async def test_a_request_is_never_split_and_never_too_large_a_batch_made() -> None:
    slow = SlowDecider()
    tasks = await asked(joint(slow), request("a", 3), request("b", 3), request("c", 2))
    slow.go.set()
    await asyncio.gather(*tasks)

    assert slow.batches == [["a0", "a1", "a2"], ["b0", "b1", "b2"], ["c0", "c1"]]


async def test_a_small_batch_waits_for_the_one_under_way() -> None:
    slow = SlowDecider()
    tasks = await asked(joint(slow, 256, at_once=2), request("a", 1), request("b", 1), request("c", 1))
    assert slow.batches == [["a0"]]
    slow.go.set()
    await asyncio.gather(*tasks)

    assert slow.batches == [["a0"], ["b0", "c0"]]


async def test_a_large_batch_is_decided_beside_the_one_under_way() -> None:
    slow = SlowDecider()
    tasks = await asked(joint(slow, 256, at_once=2), request("a", 1), request("b", 1), request("c", 63))
    assert [len(batch) for batch in slow.batches] == [1, 64]
    slow.go.set()
    await asyncio.gather(*tasks)


async def test_batches_of_one_are_decided_beside_each_other() -> None:
    slow = SlowDecider()
    tasks = await asked(joint(slow, 1, at_once=2), request("a", 1), request("b", 1), request("c", 1))
    assert slow.batches == [["a0"], ["b0"]]
    slow.go.set()
    await asyncio.gather(*tasks)


async def test_ms_5_nobody_waits_long_for_a_batch_that_is_held_up() -> None:
    slow = SlowDecider()
    tasks = await asked(joint(slow, 256, at_once=2, patience_seconds=0.01), request("a", 1), request("b", 1))
    await asyncio.wait_for(slow.second_began.wait(), LIMIT_SECONDS)
    assert slow.batches == [["a0"], ["b0"]]
    slow.go.set()
    await asyncio.gather(*tasks)


async def test_who_is_answered_and_asks_again_at_once_is_in_the_next_batch() -> None:
    slow = SlowDecider()
    decider = joint(slow)

    async def ask_twice() -> None:
        await decider.decide(request("a", 1))
        await decider.decide(request("c", 1))

    twice = asyncio.create_task(ask_twice())
    await settled()
    others = await asked(decider, request("b", 1))
    slow.go.set()
    await asyncio.gather(twice, *others)

    assert slow.batches == [["a0"], ["b0", "c0"]]


async def test_after_a_burst_a_small_batch_waits_again_until_nothing_else_is_under_way() -> None:
    gated = GatedDecider()
    decider = joint(gated, 8, at_once=3)
    tasks = await asked(decider, request("a", 8), request("b", 8), request("c", 8), request("d", 1))

    assert await gated.after("a0") == ["b0", "c0"]
    assert await gated.after("c0") == ["b0"]
    assert await gated.after("b0") == ["d0"]
    assert await gated.after("d0") == []
    await asyncio.gather(*tasks)


@pytest.mark.parametrize("turns", range(5))
async def test_a_request_that_comes_as_the_last_batch_ends_is_decided(turns: int) -> None:
    slow = SlowDecider()
    slow.go.set()
    decider = joint(slow)
    await decider.decide(request("a", 1))
    for _ in range(turns):
        await asyncio.sleep(0)

    await asyncio.wait_for(decider.decide(request("b", 1)), LIMIT_SECONDS)


async def test_an_unavailable_database_is_told_to_all_and_the_next_request_is_tried() -> None:
    slow = SlowDecider(fails=True)
    decider = joint(slow)
    tasks = await asked(decider, request("a", 1), request("b", 1))
    slow.go.set()

    for task in tasks:
        with pytest.raises(DatabaseUnavailable):
            await task
    with pytest.raises(DatabaseUnavailable):
        await decider.decide(request("c", 1))
    assert slow.batches == [["a0"], ["b0"], ["c0"]]


async def test_a_caller_that_gave_up_does_not_disturb_the_others() -> None:
    slow = SlowDecider()
    given_up, patient = await asked(joint(slow), request("a", 1), request("b", 1))
    given_up.cancel()
    slow.go.set()

    assert [outcome.item.id for outcome in await patient] == ["b0"]
