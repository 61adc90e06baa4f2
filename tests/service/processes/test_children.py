"""A child process as a supervised part: its unasked end is a crash, its asked one is not."""

import asyncio
import os

import pytest

from bursar.service.processes.children import Child, ChildEnded


async def test_a_child_that_ends_by_itself_has_crashed() -> None:
    child = Child(("web",), {"PATH": os.environ["PATH"]}, drain_seconds=5)
    with pytest.raises(ChildEnded, match="`bursar web` ended with exit code 1"):
        await child.run(asyncio.Event())
