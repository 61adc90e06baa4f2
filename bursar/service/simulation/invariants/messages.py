"""Messages, ticks and steps: whatever was accepted or begun ends, and is known."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise

from bursar.billing.calendar import from_unix
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.truth import Truth

MAIL = "send_mail"
KEPT = timedelta(days=80)  # the inbox is forgotten after 90
FORGOTTEN_KEY = "was begun so long ago that Stripe cannot tell how it went"  # MS-11: after a day without a worker


def nothing_is_parked(truth: Truth) -> Iterator[str]:
    for one in truth.facts["parked"]:
        if one["state"] == "parked":
            yield f"{one['message_id']} ({one['type']}): {one['error']}"


def decided_once(truth: Truth) -> Iterator[str]:
    for message_id, instants in truth.simulation.outside.decided.items():
        if any(later - earlier < KEPT for earlier, later in pairwise(instants)):
            yield f"{message_id} was decided {[f'{one:%Y-%m-%d %H:%M}' for one in instants]}"


def one_operation(truth: Truth) -> Iterator[str]:
    seen = set[str]()
    for one in truth.facts["steps"]:
        if one["kind"] == "operation" and one["state"] == "due":
            if one["account_key"] in seen:
                yield f"{one['account_key']} has two"
            seen.add(one["account_key"])


def every_message_ends(truth: Truth) -> Iterator[str]:
    known = _handled(truth)
    forgotten = {one["id"] for one in truth.simulation.webhooks.seen if from_unix(one["created"]) < truth.now - KEPT}
    for message_id in truth.simulation.outside.queues.accepted:
        if message_id not in known and message_id not in forgotten and not message_id.startswith("tick:"):
            yield f"{message_id} was confirmed and is nowhere"


def every_event_arrives(truth: Truth) -> Iterator[str]:
    known = _handled(truth)
    for event in truth.simulation.webhooks.seen:
        if event["id"] not in known and from_unix(event["created"]) > truth.now - KEPT:
            yield f"{event['id']} ({event['type']}) never came"


def _handled(truth: Truth) -> set[str]:
    return {one["message_id"] for rows in (truth.history["inbox"], truth.facts["parked"]) for one in rows}


def early_events_are_settled(truth: Truth) -> Iterator[str]:
    for one in truth.facts["early_events"]:
        yield f"{one['event_id']} of {one['stripe_subscription_id']} still waits"


def no_step_failed(truth: Truth) -> Iterator[str]:
    for one in truth.facts["steps"]:
        is_unknown = one["kind"] == MAIL or FORGOTTEN_KEY in (one["error"] or "")
        if one["state"] == "failed" and not is_unknown:
            yield f"{one['key']}: {one['error']}"


def ticks_are_done(truth: Truth) -> Iterator[str]:
    partitions = truth.simulation.outside.queues.partitions
    for tick in truth.facts["ticks"]:
        states = [one["state"] for one in truth.facts["tick_partitions"] if one["tick_id"] == tick["id"]]
        if len(states) != partitions or "running" in states:
            yield f"{tick['sweep']} {tick['due_at']}: {states}"


ALL_ALONG = (
    Invariant("MS-6", "no message of ours is parked", nothing_is_parked),
    Invariant("MS-3", "a message that comes twice is decided once", decided_once),
    Invariant("KC-50", "an account has one operation at a time", one_operation),
)
AT_REST = (
    Invariant("MS-2", "every accepted message ends decided or parked", every_message_ends),
    Invariant("MS-9", "every event of ours arrives", every_event_arrives),
    Invariant("KC-31", "what came early is settled", early_events_are_settled),
    Invariant("KC-78", "no step fails but where nobody can know", no_step_failed),
    Invariant("MS-8", "every tick is worked off by every partition", ticks_are_done),
)
