"""What may go wrong, by kind. Arming one makes the next opportunity meet it."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

from bursar.service.simulation.database import Trouble
from bursar.service.simulation.dying import Point
from bursar.service.simulation.outside import Answer
from bursar.service.simulation.process import Process
from bursar.service.simulation.simulation import Simulation
from bursar.service.simulation.stripe import OF_EFFECTS
from bursar.service.simulation.together import at_once, overtaken_by_another
from bursar.service.stripe_stand_in.faults import Fault

MAX_PASSES = 3  # of a point, before the process dies there
FOR_PAYMENT = 0.7  # the share that waits for a call that pays, which must not be made twice


class FaultKind(StrEnum):
    """Every kind; a value is what `--without` takes."""

    CRASH_BEFORE_COMMIT = "crash_before_commit"
    CRASH_AFTER_COMMIT = "crash_after_commit"
    CRASH_BEFORE_PUBLISH = "crash_before_publish"
    CRASH_AFTER_PUBLISH = "crash_after_publish"
    CRASH_BEFORE_CALL = "crash_before_call"
    CRASH_AFTER_CALL = "crash_after_call"
    CRASH_BEFORE_ACK = "crash_before_ack"
    CRASH_AFTER_ACK = "crash_after_ack"
    DATABASE_CONNECTION_LOST = "database_connection_lost"
    DATABASE_COMMIT_UNKNOWN = "database_commit_unknown"
    DATABASE_SERIALIZATION_FAILURE = "database_serialization_failure"
    DATABASE_DEADLOCK = "database_deadlock"
    BROKER_CONFIRM_LOST = "broker_confirm_lost"
    BROKER_REORDERS = "broker_reorders"
    STRIPE_TIMEOUT_BEFORE = "stripe_timeout_before"
    STRIPE_TIMEOUT_AFTER = "stripe_timeout_after"
    STRIPE_RATE_LIMITED = "stripe_rate_limited"
    STRIPE_ERROR_BEFORE = "stripe_error_before"
    STRIPE_ERROR_AFTER = "stripe_error_after"
    STRIPE_LOCK_TIMEOUT = "stripe_lock_timeout"
    STRIPE_DECLINED = "stripe_declined"
    STRIPE_CHALLENGE = "stripe_challenge"
    WEBHOOK_DOUBLED = "webhook_doubled"
    WEBHOOKS_REORDERED = "webhooks_reordered"
    WEBHOOK_DELAYED = "webhook_delayed"
    WEBHOOK_DROPPED = "webhook_dropped"
    INSTANCE_API_REFUSES = "instance_api_refuses"
    INSTANCE_API_SILENT = "instance_api_silent"
    INSTANCE_API_LIES = "instance_api_lies"
    MAIL_REFUSED = "mail_refused"
    MAIL_UNKNOWN = "mail_unknown"
    MAIL_LOST = "mail_lost"
    TWO_AT_ONCE = "two_at_once"
    ZOMBIE = "zombie"
    TWO_SCHEDULERS = "two_schedulers"
    DEPLOY = "deploy"


FAULT_MEANS: dict[FaultKind, str] = {
    **{
        FaultKind(f"crash_{point}"): f"a process dies {point.replace('_', ' ').replace('ack', 'acknowledging')}"
        for point in Point
    },
    FaultKind.DATABASE_CONNECTION_LOST: "the connection goes before a commit takes effect",
    FaultKind.DATABASE_COMMIT_UNKNOWN: "the connection goes right after a commit took effect",
    FaultKind.DATABASE_SERIALIZATION_FAILURE: "a transaction cannot be serialized",
    FaultKind.DATABASE_DEADLOCK: "a transaction is chosen as a deadlock's victim",
    FaultKind.BROKER_CONFIRM_LOST: "the broker takes a message and its confirm is lost",
    FaultKind.BROKER_REORDERS: "what waits at the broker comes in another order",
    FaultKind.STRIPE_TIMEOUT_BEFORE: "no answer, and nothing happened",
    FaultKind.STRIPE_TIMEOUT_AFTER: "no answer, though it happened",
    FaultKind.STRIPE_RATE_LIMITED: "429 with Retry-After",
    FaultKind.STRIPE_ERROR_BEFORE: "500, kept for the key, and nothing happened",
    FaultKind.STRIPE_ERROR_AFTER: "500, kept for the key, though it happened",
    FaultKind.STRIPE_LOCK_TIMEOUT: "409, not kept for the key",
    FaultKind.STRIPE_DECLINED: "the payments of a call are declined",
    FaultKind.STRIPE_CHALLENGE: "the payments of a call want 3-D Secure",
    FaultKind.WEBHOOK_DOUBLED: "an event that was answered comes again",
    FaultKind.WEBHOOKS_REORDERED: "the events that wait come in any order",
    FaultKind.WEBHOOK_DELAYED: "the next event comes last",
    FaultKind.WEBHOOK_DROPPED: "an event never comes: it has to be found",
    FaultKind.INSTANCE_API_REFUSES: "the instance API answers 503",
    FaultKind.INSTANCE_API_SILENT: "it does what was asked and does not answer",
    FaultKind.INSTANCE_API_LIES: "it says done and did nothing",
    FaultKind.MAIL_REFUSED: "the provider refuses a mail for now",
    FaultKind.MAIL_UNKNOWN: "it takes a mail and does not answer",
    FaultKind.MAIL_LOST: "it takes a mail and loses it",
    FaultKind.TWO_AT_ONCE: "two processes decide for one account at once",
    FaultKind.ZOMBIE: "a process stops before its commit, another does its work, and it commits too late",
    FaultKind.TWO_SCHEDULERS: "two schedulers believe that they lead",
    FaultKind.DEPLOY: "all processes are replaced in the middle",
}

Arm = Callable[[Simulation], Awaitable[str]]


def _crash(point: Point) -> Arm:
    async def arm(simulation: Simulation) -> str:
        number = simulation.rng.randrange(len(simulation.processes))
        passes = simulation.rng.randint(0, MAX_PASSES)
        simulation.processes[number].mortality.arm(point, passes)
        return f"{number} after {passes}"

    return arm


def _database(trouble: Trouble) -> Arm:
    async def arm(simulation: Simulation) -> str:
        simulation.rng.choice(simulation.processes).pool.trouble = trouble
        return "armed"

    return arm


def _stripe(fault: Fault) -> Arm:
    async def arm(simulation: Simulation) -> str:
        if fault in OF_EFFECTS and simulation.rng.random() < FOR_PAYMENT:
            simulation.outside.stripe.next_payment_fault = fault
            return "armed for a payment"
        simulation.outside.stripe.next_fault = fault
        return "armed"

    return arm


def _instances(answer: Answer) -> Arm:
    async def arm(simulation: Simulation) -> str:
        simulation.outside.instances.next_answer = answer
        return "armed"

    return arm


def _mail(answer: Answer) -> Arm:
    async def arm(simulation: Simulation) -> str:
        simulation.outside.mails.next_answer = answer
        return "armed"

    return arm


async def _lose_confirm(simulation: Simulation) -> str:
    simulation.outside.queues.lose_confirms += 1
    return "armed"


async def _reorder_broker(simulation: Simulation) -> str:
    simulation.outside.queues.shuffle(simulation.rng)
    return "done"


async def _double(simulation: Simulation) -> str:
    """Stripe posts an event again that was answered before."""
    webhooks = simulation.webhooks
    if not webhooks.answered:
        return "nothing"
    event = simulation.rng.choice(webhooks.answered[-20:])
    webhooks.waiting.insert(0, event)
    return f"{event['type']}"


async def _reorder(simulation: Simulation) -> str:
    simulation.webhooks.notice(simulation.outside.stripe.world.events)
    simulation.rng.shuffle(simulation.webhooks.waiting)
    return f"{len(simulation.webhooks.waiting)}"


async def _delay(simulation: Simulation) -> str:
    """The next event comes last."""
    waiting = simulation.webhooks.waiting
    if waiting:
        waiting.append(waiting.pop(0))
    return "done"


async def _drop(simulation: Simulation) -> str:
    """The next event is never posted: we have to find it."""
    webhooks = simulation.webhooks
    webhooks.notice(simulation.outside.stripe.world.events)
    if not webhooks.waiting:
        return "nothing"
    webhooks.dropped.append(webhooks.waiting.pop(simulation.rng.randrange(len(webhooks.waiting))))
    return f"{webhooks.dropped[-1]['type']}"


async def _two_schedulers(simulation: Simulation) -> str:
    """Both believe that they lead."""
    outcomes = [
        await simulation.on(number, lambda process: process.tick()) for number in range(len(simulation.processes))
    ]
    return ", ".join(outcomes)


async def _deploy(simulation: Simulation) -> str:
    """Every process is replaced."""
    simulation.processes = [Process(simulation.outside) for _ in simulation.processes]
    return "done"


FAULTS: dict[FaultKind, Arm] = {
    **{FaultKind(f"crash_{point}"): _crash(point) for point in Point},
    **{FaultKind(f"database_{trouble}"): _database(trouble) for trouble in Trouble},
    FaultKind.BROKER_CONFIRM_LOST: _lose_confirm,
    FaultKind.BROKER_REORDERS: _reorder_broker,
    **{FaultKind(f"stripe_{fault}"): _stripe(fault) for fault in Fault if fault is not Fault.HELD},
    FaultKind.WEBHOOK_DOUBLED: _double,
    FaultKind.WEBHOOKS_REORDERED: _reorder,
    FaultKind.WEBHOOK_DELAYED: _delay,
    FaultKind.WEBHOOK_DROPPED: _drop,
    FaultKind.INSTANCE_API_REFUSES: _instances(Answer.REFUSES),
    FaultKind.INSTANCE_API_SILENT: _instances(Answer.SILENT),
    FaultKind.INSTANCE_API_LIES: _instances(Answer.LIES),
    FaultKind.MAIL_REFUSED: _mail(Answer.REFUSES),
    FaultKind.MAIL_UNKNOWN: _mail(Answer.SILENT),
    FaultKind.MAIL_LOST: _mail(Answer.LIES),
    FaultKind.TWO_AT_ONCE: at_once,
    FaultKind.ZOMBIE: overtaken_by_another,
    FaultKind.TWO_SCHEDULERS: _two_schedulers,
    FaultKind.DEPLOY: _deploy,
}


def disarm(simulation: Simulation) -> None:
    """Nothing fails any more."""
    outside = simulation.outside
    outside.queues.lose_confirms = 0
    outside.stripe.next_fault = outside.stripe.next_payment_fault = None
    outside.instances.next_answer = outside.mails.next_answer = None
    for process in simulation.processes:
        process.mortality.disarm()
        process.pool.trouble = None
