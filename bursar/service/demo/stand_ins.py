"""Starts the stand-ins as processes of their own and stops them."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bursar.billing.values import Value
from bursar.service.demo.lives import Life, write_lives
from bursar.service.demo.standing_in import LOOPBACK

START_SECONDS = 30.0
STOP_SECONDS = 5.0

Command = tuple[str, Sequence[str], dict[str, str]]  # module, options, secrets


class StandInFailedError(RuntimeError):
    """A stand-in ended, or said nothing, before it served."""


class StandIns(Value):
    """Where the stand-ins listen."""

    instances_url: str
    stripe_url: str
    mails_url: str
    smtp_host: str
    smtp_port: int


@asynccontextmanager
async def running_stand_ins(
    lives: Sequence[Life], folder: Path, *, instances_secret: str, stripe_key: str
) -> AsyncIterator[StandIns]:
    """Run all three until the block ends; `folder` takes the file of lives. Raises `StandInFailedError`."""
    lives_file = folder / "lives.jsonl"
    write_lives(lives_file, lives)
    commands: tuple[Command, ...] = (
        ("instance_api", (), {"KILOCLAW_INTERNAL_API_SECRET": instances_secret}),
        ("mail_sink", (), {}),
        ("stripe_reads", ("--lives", str(lives_file)), {"STRIPE_SECRET_KEY": stripe_key}),
    )
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(_running(*command)) for command in commands]
        instances, mails, stripe = await asyncio.gather(*(_announced(process) for process in processes))
        yield StandIns(
            instances_url=_url(instances),
            stripe_url=_url(stripe),
            mails_url=_url(mails),
            smtp_host=LOOPBACK,
            smtp_port=mails["smtp"],
        )


def _url(ports: dict[str, int]) -> str:
    return f"http://{LOOPBACK}:{ports['http']}"


@asynccontextmanager
async def _running(
    name: str, options: Sequence[str], secrets: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run one stand-in. Secrets go by environment, since anyone can read a command line."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"bursar.service.demo.{name}",
        *options,
        env={**os.environ, **secrets},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        await _stop(process)


async def _announced(process: asyncio.subprocess.Process) -> dict[str, int]:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS):
            line = await process.stdout.readline()
    except TimeoutError:
        line = b""
    if not line:
        raise StandInFailedError(f"a stand-in did not start within {START_SECONDS:.0f} s")
    ports: dict[str, int] = json.loads(line)
    return ports


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Close its standard input; kill it if that is not enough."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
