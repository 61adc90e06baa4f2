"""What may happen next, by weight: users, Stripe's customers, webhooks, the service's own work, and time."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import timedelta
from random import Random

from bursar.billing.values import Value
from bursar.service.simulation import at_stripe
from bursar.service.simulation.commands import Command
from bursar.service.simulation.due import due_crews, swept_partitions
from bursar.service.simulation.simulation import Simulation
from bursar.sweeps.checks import CHECKS

LETS_REFILL = 0.8
SOON_SPENT_CENTS = (2_000, 5_000, 5_000)
PLANS = ("standard", "standard", "commit")
FUNDINGS = ("direct", "credits")
LANE_LIMITS = (1, 2, 8, 256)
ALL = 1_000
MAX_PAGES = 20  # of a tick on a partition, one after the other
CHECKED = 0.35  # the share of undisturbed whiles in which the checks are made, too: they are what costs most
CHECKING = tuple(CHECKS.values())
DROPPED_FOR = timedelta(days=3)

# What a command asks for where it depends on nothing else.
DRAWN: Mapping[str, Callable[[Random], object]] = {
    "check_out": lambda rng: (rng.choice(PLANS), rng.choice(FUNDINGS)),
    "switch_plan": lambda rng: rng.choice(PLANS),
    "buy_credits": lambda rng: rng.choice(at_stripe.TOP_UP_CENTS),
    "auto_top_up": lambda rng: rng.choice((True, True, True, False)),
}

Act = Callable[[Simulation], Awaitable[str]]


class Action(Value):
    """One kind of event. `act` says in a word what became of it."""

    name: str
    weight: int
    act: Act


def command(verb: str, weight: int) -> Action:
    """Some user gives the command."""

    async def act(simulation: Simulation) -> str:
        user_id = at_stripe.some_user(simulation)
        argument = argument_of(simulation, verb, user_id)
        return f"{user_id} {argument or ''} {await _given(simulation, verb, user_id, argument)}"

    return Action(verb, weight, act)


async def _given(simulation: Simulation, verb: str, user_id: str, argument: object) -> str:
    given = Command(f"command-{simulation.step}-{verb}", verb, user_id, argument)
    simulation.commands.append(given)
    return await simulation.send(given)


async def _live_on_credits(simulation: Simulation) -> str:
    """A user mostly lets the credits be refilled, puts money in, and pays hosting from it."""
    user_id, outcomes = at_stripe.some_user(simulation), []
    if simulation.rng.random() < LETS_REFILL:
        outcomes.append(await _given(simulation, "auto_top_up", user_id, argument=True))
    outcomes.append(await _given(simulation, "buy_credits", user_id, simulation.rng.choice(SOON_SPENT_CENTS)))
    outcomes.append(await at_stripe.pay_checkout(simulation, user_id))
    await serve(simulation)
    argument = argument_of(simulation, "enroll", user_id)
    outcomes.append(await _given(simulation, "enroll", user_id, argument))
    return f"{user_id} {', '.join(outcomes)}"


async def _live_on_invoices(simulation: Simulation) -> str:
    """A user subscribes at Stripe, and it is kept in credits."""
    user_id = at_stripe.some_user(simulation)
    plan = simulation.rng.choice(PLANS)
    checked_out = await _given(simulation, "check_out", user_id, (plan, "credits"))
    paid = await at_stripe.pay_checkout(simulation, user_id)
    await serve(simulation)
    return f"{user_id} {checked_out}, {paid}"


def argument_of(simulation: Simulation, verb: str, user_id: str) -> object:
    """What a user who gives that command would ask for now."""
    drawn = DRAWN.get(verb)
    if drawn:
        return drawn(simulation.rng)
    known = simulation.provisioned.get(user_id, [])
    newest = known[-1] if known and known[-1] not in simulation.destroyed_by_user else None
    running = newest if newest and simulation.outside.instances.states.get(newest) != "destroyed" else None
    wanted = running or f"instance-{user_id}-{len(known)}"
    match verb:
        case "provision":
            return wanted
        case "enroll":
            return (simulation.rng.choice(PLANS), wanted)
        case "destroy_instance":
            return newest or "instance-unknown"
        case "buy_earlybird":
            return f"payment-{user_id}"
        case _:
            return None


async def _repeat(simulation: Simulation) -> str:
    """A caller that got no answer asks again under the same key."""
    if not simulation.commands:
        return "nothing"
    again = simulation.rng.choice(simulation.commands[-6:])
    if again.user_id in simulation.deleted and again.verb != "delete_user":
        return "nothing"
    return f"{again.id} {again.verb} {await simulation.send(again)}"


async def _relay(simulation: Simulation) -> str:
    """Stripe posts some of what waits, mostly in order."""
    return await _post(simulation, simulation.rng.choice((1, 2, 4, 16)))


async def _post(simulation: Simulation, number: int) -> str:
    webhooks = simulation.webhooks
    webhooks.notice(simulation.outside.stripe.world.events)
    outcomes = []
    for _ in range(min(len(webhooks.waiting), number)):
        event = webhooks.waiting[0]
        outcome = await simulation.relay(event)
        outcomes.append(f"{event['type']} {outcome}")
        if outcome == "done":
            webhooks.answered.append(webhooks.waiting.pop(0))
    return ", ".join(outcomes) or "nothing"


async def _take(simulation: Simulation) -> str:
    """A lane takes a batch."""
    waiting = simulation.outside.queues.waiting
    if not waiting:
        return "nothing"
    partition, limit = simulation.rng.choice(waiting), simulation.rng.choice(LANE_LIMITS)
    return f"p{partition} {await simulation.on_some(lambda process: process.take_batch(partition, limit))}"


async def _page(simulation: Simulation) -> str:
    """A lane does a page of a tick."""
    swept = await simulation.outside.connections.asked(swept_partitions)
    if not swept:
        return "nothing"
    partition = simulation.rng.choice(swept)
    return f"p{partition} {await simulation.on_some(lambda process: process.take_page(partition))}"


async def _expand(simulation: Simulation) -> str:
    if not simulation.outside.queues.ticks:
        return "nothing"
    return await simulation.on_some(lambda process: process.expand())


async def _tick(simulation: Simulation) -> str:
    return await simulation.on_some(lambda process: process.tick())


async def _carry_out(simulation: Simulation) -> str:
    """A crew does what is due for it."""
    due = await _due(simulation)
    if not due:
        return "nothing"
    name = simulation.rng.choice(due)
    return f"{name} {await simulation.on_some(lambda process: process.carry_out(name))}"


async def _due(simulation: Simulation) -> list[str]:
    clock = simulation.outside.clock
    return await simulation.outside.connections.asked(lambda connection: due_crews(connection, clock.real_now))


async def _retry(simulation: Simulation) -> str:
    return await simulation.on_some(lambda process: process.retries.retry_due())


async def serve(simulation: Simulation) -> str:
    """An undisturbed while: everything that waits is done, as far as nothing fails; the checks take their time."""
    has_checks = simulation.rng.random() < CHECKED
    return await serve_all(simulation, without=() if has_checks else CHECKING)


async def serve_all(simulation: Simulation, without: Collection[str] = ()) -> str:
    """Likewise, but for those crews."""
    await _post(simulation, ALL)
    for partition in list(simulation.outside.queues.waiting):
        await simulation.on_some(lambda process, at=partition: process.take_batch(at, 256))  # type: ignore[misc]
    done = ""
    while name := next((one for one in await _due(simulation) if one > done and one not in without), None):
        await simulation.on_some(lambda process, at=name: process.carry_out(at))  # type: ignore[misc]
        done = name
    return "done"


async def sweep(simulation: Simulation) -> str:
    """A whole tick: made, sent on, and worked off by every partition."""
    outcome = await _tick(simulation)
    await work_off(simulation)
    return outcome


async def work_off(simulation: Simulation) -> None:
    """The ticks that are there are sent on, and done page by page."""
    queues = simulation.outside.queues
    for _ in range(len(queues.ticks)):
        await _expand(simulation)
    for partition in range(queues.partitions):
        if queues.lanes[partition]:
            await simulation.on_some(lambda process, at=partition: process.take_batch(at, 256))  # type: ignore[misc]
    for partition in await simulation.outside.connections.asked(swept_partitions):
        for _ in range(MAX_PAGES):
            if await simulation.on_some(lambda process, at=partition: process.take_page(at)) != "True":  # type: ignore[misc]
                break


def passing(name: str, weight: int, shortest: timedelta, longest: timedelta, *, is_undisturbed: bool = False) -> Action:
    """Time goes on, by whole seconds; where nothing disturbs us, whatever is due by then is done."""

    async def act(simulation: Simulation) -> str:
        span = int((longest - shortest).total_seconds())
        duration = shortest + timedelta(seconds=simulation.rng.randint(0, span))
        simulation.pass_time(duration)
        found_by = simulation.now - DROPPED_FOR
        simulation.webhooks.send_dropped_again(int(found_by.timestamp()))
        if is_undisturbed:
            await sweep(simulation)
            await serve(simulation)
        return f"{simulation.now:%Y-%m-%d %H:%M}"

    return Action(name, weight, act)


ACTIONS: tuple[Action, ...] = (
    command("start_trial", 5),
    command("provision", 6),
    command("destroy_instance", 2),
    command("buy_earlybird", 3),
    command("check_out", 8),
    command("cancel", 4),
    command("reactivate", 3),
    command("switch_plan", 4),
    command("cancel_switch", 2),
    command("renew_commit", 2),
    command("enroll", 7),
    command("auto_top_up", 5),
    command("buy_credits", 3),
    command("delete_user", 1),
    Action("live_on_credits", 8, _live_on_credits),
    Action("live_on_invoices", 3, _live_on_invoices),
    Action("repeat_command", 4, _repeat),
    Action("pay_checkout", 10, at_stripe.pay_checkout),
    Action("top_up", 7, at_stripe.top_up),
    Action("refund", 2, at_stripe.refund),
    Action("dispute", 2, at_stripe.dispute),
    Action("card_fails", 5, at_stripe.card_fails),
    Action("card_works", 3, at_stripe.card_works),
    Action("relay", 12, _relay),
    Action("take", 13, _take),
    Action("tick", 3, _tick),
    Action("expand", 3, _expand),
    Action("page", 6, _page),
    Action("carry_out", 14, _carry_out),
    Action("retry", 2, _retry),
    Action("serve", 12, serve),
    Action("sweep", 10, sweep),
    passing("pass_minutes", 6, timedelta(seconds=1), timedelta(minutes=30)),
    passing("pass_hours", 6, timedelta(hours=1), timedelta(hours=30)),
    passing("pass_days", 10, timedelta(days=1), timedelta(days=9)),
    passing("pass_weeks", 5, timedelta(days=10), timedelta(days=25)),
    passing("live_on", 24, timedelta(days=6), timedelta(days=16), is_undisturbed=True),
)
