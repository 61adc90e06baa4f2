"""The stand-in for Stripe as a process: it tells its address in one line, and ends with its parent."""

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import time

from tests.stripe.control import controlling
from tests.stripe.stand_in import WEBHOOK_SECRET, stripe_stand_in


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.stripe", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--now", type=int, default=int(time.time()), help="its time at the start, in Unix seconds")
    parser.add_argument("--webhook-url", help="where POST /stand-in/deliver posts events")
    parser.add_argument("--webhook-secret", default=WEBHOOK_SECRET, help="signs them")
    asyncio.run(_serve(parser.parse_args()))


async def _serve(asked: argparse.Namespace) -> None:
    running = stripe_stand_in(
        now=asked.now, port=asked.port, webhook_url=asked.webhook_url, webhook_secret=asked.webhook_secret
    )
    async with running as stripe:
        stripe.server.control = controlling(stripe)
        print(json.dumps({"url": stripe.base_url}), flush=True)  # noqa: T201 - the parent reads it
        await _until_orphaned()


async def _until_orphaned() -> None:
    """Until SIGTERM, SIGINT or the end of standard input."""
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    with contextlib.suppress(OSError, ValueError):  # not a pipe: then only the signals end it
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        reading = asyncio.create_task(reader.read())
        reading.add_done_callback(lambda _: ended.set())
    await ended.wait()


if __name__ == "__main__":
    main()
