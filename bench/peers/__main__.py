"""One process of one contender: `python -m bench.peers NAME fill|pace|work`, servers in the environment."""

import argparse
import asyncio
import contextlib
import json
import os
import time
from collections.abc import Coroutine, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar, cast

from bench.peers.contender import Addresses, Contender
from bench.peers.events import Event, read_events

Result = TypeVar("Result")


def main() -> None:
    options = _options()
    addresses = Addresses(os.environ["DATABASE_URL"], os.environ["AMQP_URL"])
    contender = cast("Contender", import_module(f"bench.peers.{options.name}").contender(addresses))
    match options.action:
        case "fill":
            _run(_fill(contender, read_events(options.events)))
        case "pace":
            sent = _run(_pace(contender, read_events(options.events), options.rate))
            options.sent.write_text(json.dumps(sent), encoding="utf-8")
        case "work":
            _run(contender.work())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("action", choices=("fill", "pace", "work"))
    parser.add_argument("--events", type=Path, help="a file of events")
    parser.add_argument("--rate", type=float, help="events a second, of pace")
    parser.add_argument("--sent", type=Path, help="where pace writes when each was sent")
    return parser.parse_args()


def _run(action: Coroutine[Any, Any, Result]) -> Result:
    with contextlib.suppress(ImportError):
        import uvloop  # noqa: PLC0415 - not for Windows

        return uvloop.run(action)
    return asyncio.run(action)


async def _fill(contender: Contender, events: Sequence[Event]) -> None:
    await contender.prepare()
    await contender.fill(events)


async def _pace(contender: Contender, events: Sequence[Event], rate: float) -> dict[str, float]:
    """Send the events evenly, each when its turn comes whether or not the one before was taken. Returns Unix times."""
    sent: dict[str, float] = {}
    async with contender.sending() as send, asyncio.TaskGroup() as sending:
        began = time.perf_counter()
        for number, event in enumerate(events):
            await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))
            sent[event.id] = time.time()
            sending.create_task(send(event))
    return sent


if __name__ == "__main__":
    main()
