"""One run: a seed, its users, the processes, everything around them, and what happened."""

import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import Refused, Retryable, describe
from bursar.service.demo.lives import JsonObject
from bursar.service.observability.metrics import Metrics
from bursar.service.simulation.broker import Queues
from bursar.service.simulation.clock import SimulatedClock
from bursar.service.simulation.commands import VERBS, Command
from bursar.service.simulation.database import MADE_UP, Connections
from bursar.service.simulation.outside import SimulatedInstances, SimulatedMails
from bursar.service.simulation.process import PARTITIONS, Outside, Process
from bursar.service.simulation.stripe import SimulatedStripe
from bursar.service.simulation.trace import Trace
from bursar.service.simulation.webhooks import Webhooks, relay
from bursar.service.stripe_stand_in.world import AfterDunning, Policy, World

BEGINS_AT = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
PROCESSES = 2
USERS = (3, 6)

Work = Callable[[Process], Coroutine[Any, Any, Any]]


class Unexpected(Exception):
    """The code under test raised what it never should."""


@dataclass(slots=True)
class Simulation:
    """Everything of a run. `rng` draws all that happens in a step; nothing else is by chance."""

    seed: int
    outside: Outside
    users: list[str]
    rng: random.Random = field(default_factory=random.Random)
    step: str = "0"
    webhooks: Webhooks = field(default_factory=Webhooks)
    processes: list[Process] = field(default_factory=list)
    trace: Trace = field(default_factory=Trace)
    commands: list[Command] = field(default_factory=list)
    provisioned: dict[str, list[str]] = field(default_factory=dict)  # instances of a user, as the product knows them
    destroyed_by_user: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)

    @property
    def now(self) -> datetime:
        """Business time."""
        return self.outside.clock.now

    def begin(self, step: str) -> None:
        """Chance of this step alone: a step that is left out changes nothing of what is drawn for the others."""
        self.step = step
        self.rng.seed(f"{self.seed}:{step}")
        random.seed(f"jitter:{self.seed}:{step}")  # of the code under test

    async def on_some(self, work: Work) -> str:
        """Have one of the processes do it; what became of that, in a word."""
        return await self.on(self.rng.randrange(len(self.processes)), work)

    async def on(self, number: int, work: Work) -> str:
        """Likewise, that process."""
        process = self.processes[number]
        try:
            result = await process.mortality.live(work(process))
        except Refused as refusal:
            return refusal.code
        except Retryable as error:
            return f"later ({type(error).__name__})"
        except Exception as error:
            if error.args == MADE_UP:
                return f"restarted ({type(error).__name__})"  # the part is supervised: it is begun anew
            raise Unexpected(describe(error)) from error
        if process.mortality.is_dead:
            self.processes[number] = Process(self.outside)
            self.trace.counts[f"died {process.mortality.died_at}"] += 1
            return f"died {process.mortality.died_at}"
        return f"{result}" if isinstance(result, int | bool) else "done"

    async def send(self, command: Command) -> str:
        """A user's command."""
        return await self.on_some(self.sending(command))

    def sending(self, command: Command) -> Work:
        """The command as a process carries it out; the product takes note of an answer."""

        async def work(process: Process) -> None:
            try:
                await VERBS[command.verb](process, command)
            except Refused as refusal:
                if refusal.code == "user_deleted":  # where the answer to the deletion was lost
                    self.deleted.add(command.user_id)
                raise
            self._take_note(command)

        return work

    def _take_note(self, command: Command) -> None:
        match command.verb:
            case "provision":
                self._provisioned(command.user_id, command.argument)
            case "enroll":
                self._provisioned(command.user_id, command.argument[1])
            case "destroy_instance":
                self.destroyed_by_user.add(command.argument)
                self.outside.instances.destroyed_by_user(command.argument)
            case "delete_user":
                self.deleted.add(command.user_id)

    def _provisioned(self, user_id: str, instance_id: str) -> None:
        known = self.provisioned.setdefault(user_id, [])
        if instance_id not in known:
            known.append(instance_id)
        self.outside.instances.provision(instance_id)

    def pass_time(self, duration: timedelta) -> None:
        """Both clocks go on, and Stripe's with them; what happened there is on its way to us."""
        self.outside.clock.pass_time(duration)
        self.outside.stripe.pass_time(self.now)
        self.webhooks.notice(self.outside.stripe.world.events)

    async def relay(self, event: JsonObject) -> str:
        """Stripe posts an event; it is told 2xx, or posts it again."""
        return await self.on_some(lambda process: relay(process, event))


def new_simulation(seed: int, connections: Connections, catalogue: Catalogue, metrics: Metrics) -> Simulation:
    """As everything stands before the first action."""
    chance = random.Random(seed)
    number, after_dunning = chance.randint(*USERS), chance.choice(list(AfterDunning))
    clock = SimulatedClock(BEGINS_AT, BEGINS_AT)
    stripe = SimulatedStripe(World(int(BEGINS_AT.timestamp()), Policy(after_dunning=after_dunning)))
    instances, mails = SimulatedInstances(clock), SimulatedMails(clock)
    outside = Outside(clock, connections, Queues(PARTITIONS), stripe, instances, mails, catalogue, metrics)
    simulation = Simulation(seed, outside, [f"user-{one}" for one in range(number)])
    simulation.processes = [Process(outside) for _ in range(PROCESSES)]
    return simulation
