"""Two processes that decide at once for one account: one stands before its commit while the other begins."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from bursar.db.connections import Connection
from bursar.service.simulation.actions import argument_of
from bursar.service.simulation.at_stripe import some_user
from bursar.service.simulation.commands import Command
from bursar.service.simulation.database import Trouble
from bursar.service.simulation.loop import awaiting_answer
from bursar.service.simulation.process import Process
from bursar.service.simulation.simulation import Simulation, Work

LOOKS = 2_000  # for the second to wait for a lock, or to end
LOOK_SECONDS = 0.001
BY_A_USER = 0.5  # the share in which two commands meet, and not messages
IN_TWO_WINDOWS = ("enroll", "enroll", "provision", "start_trial", "check_out", "renew_commit")


@dataclass(slots=True)
class Gate:
    """Where the first stands until it is told to go on."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    opened: asyncio.Event = field(default_factory=asyncio.Event)
    then: Callable[[], None] = lambda: None

    async def pass_through(self) -> None:
        """The pool's gate before a commit."""
        self.reached.set()
        await self.opened.wait()
        self.then()


async def at_once(simulation: Simulation) -> str:
    """Two lanes, or a lane and a user's command, decide for one account; the first commits first."""
    return await _interleaved(simulation, is_fenced=False)


async def overtaken_by_another(simulation: Simulation) -> str:
    """A process stops before its commit; its session is ended, another does its work, and it commits too late."""
    return await _interleaved(simulation, is_fenced=True)


async def _interleaved(simulation: Simulation, *, is_fenced: bool) -> str:
    chosen = _chosen(simulation)
    if chosen is None:
        return "nothing"
    first, second = chosen
    zombie = simulation.processes[0]
    gate = Gate()
    if is_fenced:
        gate.then = lambda: setattr(zombie.pool, "trouble", Trouble.CONNECTION_LOST)
    zombie.pool.gate = gate.pass_through
    ahead = asyncio.create_task(simulation.on(0, first))
    await _either(ahead, gate.reached)
    if ahead.done():
        zombie.pool.gate = None
        return f"{ahead.result()}, alone"
    behind = asyncio.create_task(simulation.on(1, second))
    await _until_blocked(simulation, behind)
    gate.opened.set()
    return f"{await ahead}, {await behind}"


def _chosen(simulation: Simulation) -> tuple[Work, Work] | None:
    """What two do at once: two commands of a user, the halves of a partition's messages, or a message and a command."""
    queues, rng = simulation.outside.queues, simulation.rng
    if rng.random() < BY_A_USER:
        return _two_commands(simulation)
    if not queues.waiting:
        return None
    partition = rng.choice(queues.waiting)
    limit = max(1, len(queues.lanes[partition]) // 2)

    async def lane(process: Process) -> None:
        if queues.lanes[partition]:
            await process.take_batch(partition, limit)

    is_command = simulation.commands and len(queues.lanes[partition]) == 1
    return lane, simulation.sending(simulation.commands[-1]) if is_command else lane


def _two_commands(simulation: Simulation) -> tuple[Work, Work] | None:
    """A user who asks for the same in two windows: two commands, as their ids are not the same."""
    user_id, verb = some_user(simulation), simulation.rng.choice(IN_TWO_WINDOWS)
    if user_id in simulation.deleted:
        return None
    argument = argument_of(simulation, verb, user_id)
    both = [Command(f"command-{simulation.step}-{verb}-{window}", verb, user_id, argument) for window in (1, 2)]
    simulation.commands += both
    return simulation.sending(both[0]), simulation.sending(both[1])


async def _either(task: asyncio.Task[str], event: asyncio.Event) -> None:
    reached = asyncio.create_task(event.wait())
    await asyncio.wait({task, reached}, return_when=asyncio.FIRST_COMPLETED)
    reached.cancel()


async def _until_blocked(simulation: Simulation, task: asyncio.Task[str]) -> None:
    """Until the second waits for a lock of the first, or has ended without one."""
    connections = simulation.outside.connections
    watching = await connections.take()
    try:
        for _ in range(LOOKS):
            if task.done() or await _somebody_waits(watching):
                return
            await asyncio.wait({task}, timeout=LOOK_SECONDS)
    finally:
        connections.give_back(watching)


async def _somebody_waits(connection: Connection) -> bool:
    with awaiting_answer():
        found: bool = await connection.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')
            """
        )
    return found
