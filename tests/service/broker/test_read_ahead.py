import asyncio

import pytest

from bursar.service.broker.read_ahead import ReadAhead

LIMIT_SECONDS = 5.0


class Readers:
    """Lanes, each with a batch: notes who reads, and decides when told to."""

    def __init__(self, read_ahead: ReadAhead) -> None:
        self._read_ahead = read_ahead
        self._decided: dict[str, asyncio.Future[None]] = {}
        self.reading: list[str] = []

    async def asks(self, name: str, messages: int) -> asyncio.Task[None]:
        task = asyncio.create_task(self._reads(name, messages))
        await settled()
        return task

    async def decides(self, name: str, error: Exception | None = None) -> None:
        if error:
            self._decided[name].set_exception(error)
        else:
            self._decided[name].set_result(None)
        await settled()

    async def _reads(self, name: str, messages: int) -> None:
        async with self._read_ahead.turn(lambda: messages):
            self.reading.append(name)
            self._decided[name] = asyncio.get_running_loop().create_future()
            await self._decided[name]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_ms_5_lanes_read_in_the_order_in_which_they_came_while_there_is_room() -> None:
    readers = Readers(ReadAhead(max_batch=5, at_once=1))  # ten messages
    for name, messages in (("a", 6), ("b", 3), ("c", 8), ("d", 1), ("e", 1)):
        await readers.asks(name, messages)
    assert readers.reading == ["a", "b", "c"]  # 17 by now: the last one reads its whole batch
    await readers.decides("b")
    assert readers.reading == ["a", "b", "c"]  # 14 are left
    await readers.decides("a")
    assert readers.reading == ["a", "b", "c", "d", "e"]


async def test_ms_5_who_comes_back_waits_behind_those_in_line() -> None:
    readers = Readers(ReadAhead(max_batch=1, at_once=0))
    for name in ("a", "b"):
        await readers.asks(name, 1)
    again = asyncio.create_task(readers.asks("a again", 1))
    await readers.decides("a")
    await again
    assert readers.reading == ["a", "b"]
    await readers.decides("b")
    assert readers.reading == ["a", "b", "a again"]


async def test_ms_5_a_batch_that_failed_makes_room() -> None:
    readers = Readers(ReadAhead(max_batch=1, at_once=0))
    failing = await readers.asks("a", 1)
    await readers.asks("b", 1)
    await readers.decides("a", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await failing
    assert readers.reading == ["a", "b"]


async def test_ms_5_who_is_cancelled_in_line_is_in_nobodys_way() -> None:
    readers = Readers(ReadAhead(max_batch=1, at_once=0))
    await readers.asks("a", 1)
    waiting = [await readers.asks(name, 1) for name in ("b", "c", "d")]
    for task in waiting[:2]:
        task.cancel()
    await readers.decides("a")
    assert readers.reading == ["a", "d"]
    await readers.decides("d")
    await asyncio.wait_for(waiting[2], LIMIT_SECONDS)


async def test_ms_5_what_comes_in_while_a_lane_stands_in_line_is_taken_with_the_rest() -> None:
    read_ahead, waiting, taken = ReadAhead(max_batch=1, at_once=0), [1], list[int]()

    def take() -> int:
        taken.extend(waiting)
        return len(waiting)

    async def read() -> None:
        async with read_ahead.turn(take):
            return

    async with read_ahead.turn(lambda: 1):
        standing = asyncio.create_task(read())
        await settled()
        waiting.append(2)
    await asyncio.wait_for(standing, LIMIT_SECONDS)
    assert taken == [1, 2]
