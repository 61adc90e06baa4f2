"""Playing a seed: actions and faults as they are drawn, invariants all along, and peace at the end."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from bursar.billing.catalogue import Catalogue
from bursar.billing.values import Value
from bursar.service.observability.metrics import Metrics
from bursar.service.simulation import facts as reading
from bursar.service.simulation.actions import ACTIONS, serve_all, sweep, work_off
from bursar.service.simulation.commands import Command
from bursar.service.simulation.database import Connections
from bursar.service.simulation.faults import FAULTS, FaultKind, disarm
from bursar.service.simulation.invariants import ALL_ALONG, AT_REST, Broken, check
from bursar.service.simulation.playground import empty
from bursar.service.simulation.simulation import Simulation, Unexpected, new_simulation
from bursar.service.simulation.truth import Truth

FAULT_SHARE = 0.16  # of what is drawn
MAX_SETTLING_ROUNDS = 100
LINES_KEPT = 40
WEIGHTS = [one.weight for one in ACTIONS]
KINDS = list(FaultKind)


class Plan(Value):
    """What is played: a seed, so many steps, without these actions and faults."""

    seed: int
    steps: int
    without: frozenset[str] = frozenset()

    @property
    def command(self) -> str:
        """What replays it."""
        left_out = f" --without {','.join(sorted(self.without))}" if self.without else ""
        return f"bursar simulate --seed {self.seed} --steps {self.steps}{left_out}"


class Outcome(Value):
    """What became of a plan. `checks` are by invariant; `broken` names one, its rule and what was found."""

    plan: Plan
    digest: str
    counts: Counter[str]
    checks: Counter[str]
    lines: Sequence[str]
    broken: Broken | None = None
    steps_done: int = 0


@dataclass(slots=True)
class Player:
    """Plays plans on one database, one after the other."""

    connections: Connections
    catalogue: Catalogue
    metrics: Metrics

    async def play(self, plan: Plan) -> Outcome:
        """From an empty database to the end."""
        await self.connections.asked(empty)
        simulation = new_simulation(plan.seed, self.connections, self.catalogue, self.metrics)
        truth = Truth(simulation)
        run, broken = _Run(self, plan, simulation, truth), None
        try:
            await run.play()
        except Broken as found:
            broken = found
        except Unexpected as error:
            broken = Broken("MS-6", "nothing fails in a way that nobody foresaw", str(error))
        await self._fold_in(simulation)
        trace = simulation.trace
        return Outcome(plan, trace.digest, trace.counts, run.checks, trace.lines[-LINES_KEPT:], broken, run.steps_done)

    async def _fold_in(self, simulation: Simulation) -> None:
        """The final rows, Stripe's calls, and what the outside saw belong to the digest."""
        simulation.trace.fold_in(await self.connections.asked(reading.read_facts))
        simulation.trace.fold_in(await self.connections.asked(reading.read_history))
        outside = simulation.outside
        simulation.trace.fold_in([outside.stripe.calls, outside.instances.history])
        simulation.trace.fold_in([[mail.key, mail.subject] for mail in outside.mails.sent])


@dataclass(slots=True)
class _Run:
    player: Player
    plan: Plan
    simulation: Simulation
    truth: Truth
    steps_done: int = 0
    checks: Counter[str] = field(default_factory=Counter)
    _commits: int = -1

    async def play(self) -> None:
        simulation = self.simulation
        simulation.begin("beginning")
        for user_id in simulation.users:
            await simulation.send(Command(f"profile-{user_id}", "tell_profile", user_id))
        for number in range(self.plan.steps):
            simulation.begin(str(number))
            self.steps_done = number + 1
            await self._step(number)
            await self.look()
        await self._settle()

    async def _step(self, number: int) -> None:
        """Drawn from everything there is, and left out where the plan says so."""
        rng = self.simulation.rng
        is_fault, action, kind = rng.random() < FAULT_SHARE, rng.choices(ACTIONS, WEIGHTS)[0], rng.choice(KINDS)
        name, act = (kind.value, FAULTS[kind]) if is_fault else (action.name, action.act)
        if name not in self.plan.without:
            self._note(number, name, await act(self.simulation))

    def _note(self, number: int, name: str, outcome: str) -> None:
        self.simulation.trace.counts[name] += 1
        self.simulation.trace.add(f"{number:4} {self.simulation.now:%m-%d %H:%M} {name}: {outcome}")

    async def look(self, *, is_at_rest: bool = False) -> None:
        """Check what must hold now; nothing can have changed where nothing was committed."""
        commits = self.simulation.outside.connections.commits
        if commits == self._commits and not is_at_rest:
            return
        self._commits = commits
        facts = await self.player.connections.asked(reading.read_facts)
        history = await self.player.connections.asked(reading.read_history) if is_at_rest else {}
        self.truth.observe(facts)
        self.checks.update(check(ALL_ALONG, self.truth))
        if is_at_rest:
            self.truth.history = history
            self.checks.update(check(AT_REST, self.truth))

    async def _settle(self) -> None:
        """Nothing fails any more; time goes on until nothing is due."""
        simulation = self.simulation
        disarm(simulation)
        simulation.webhooks.send_dropped_again(simulation.outside.stripe.world.now + 1)
        was_quiet = False  # what a round's events made due is done by the tick of the next
        for number in range(MAX_SETTLING_ROUNDS):
            simulation.begin(f"rest {number}")
            await (sweep(simulation) if number else work_off(simulation))  # a tick comes after all else at the earliest
            await serve_all(simulation)
            await simulation.on_some(lambda process: process.retries.retry_due())
            await self.look()
            was_quiet, is_quiet = self._is_quiet(), was_quiet and self._is_quiet()
            if is_quiet:
                self._note(self.plan.steps + number, "rest", "reached")
                await self.look(is_at_rest=True)
                return
            simulation.pass_time(self._until_due())
        raise Broken(
            "KC-78", "everything that was begun ends", f"no rest after {MAX_SETTLING_ROUNDS} rounds: {self._due()}"
        )

    def _due(self) -> list[str]:
        facts = self.truth.facts
        return [
            *(f"step {one['key']} {one['error'] or ''}" for one in facts["steps"] if one["state"] == "due"),
            *(
                f"instance {one['id']}"
                for one in facts["instances"]
                if one["generation"] > one["done_generation"] and one["destroyed_at"] is None
            ),
            *(f"message {one['message_id']}" for one in facts["parked"] if one["state"] == "retrying"),
            *(f"tick {one['due_at']}" for one in facts["ticks"] if one["expanded_at"] is None),
            *(f"tick {one['tick_id']}" for one in facts["tick_partitions"] if one["state"] == "running"),
            *(f"webhook {one['type']}" for one in self.simulation.webhooks.waiting),
            *(f"delivery {one.message_id}" for lane in self.simulation.outside.queues.lanes for one in lane),
            *(f"tick {sweep} {due_at}" for sweep, due_at in self.simulation.outside.queues.ticks),
        ]

    def _is_quiet(self) -> bool:
        simulation = self.simulation
        simulation.webhooks.notice(simulation.outside.stripe.world.events)
        return not self._due()

    def _until_due(self) -> timedelta:
        """At least past every lease; at most to the next full hour, whose tick is worked off then."""
        now = self.simulation.now
        hour = now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        return hour - now + timedelta(seconds=1)
