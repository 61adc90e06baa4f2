"""Steps: what follows a decision outside Postgres. Durable, keyed, retried, carried out by the step runner."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from bursar.billing.values import Value, field


class StepKind(StrEnum):
    """What a step does; each kind has its bounds in `service/steps`."""

    SEND_MAIL = "send_mail"
    READ_SUBSCRIPTIONS = "read_subscriptions"
    OPERATION = "operation"  # what a command changes at Stripe, all or nothing
    KEEP_SCHEDULE = "keep_schedule"  # likewise, of our own accord
    GAP_CHECK = "gap_check"  # find the events that never came (MS-9)
    RECONCILE = "reconcile"  # compare every row with Stripe (MS-10)
    TOP_UP = "top_up"  # charge the card on file for a renewal (CR-38)
    AUDIT = "audit"  # recompute credit accounts from their entries (CR-4)
    FIND_INVOICE = "find_invoice"  # that a refunded or disputed payment had paid (CR-11)
    END_SUBSCRIPTION = "end_subscription"  # at Stripe, of a user who was deleted (KC-120)
    END_CUSTOMER = "end_customer"  # likewise: the pages they left open, and what was paid there unheard of
    RETURN_TOP_UP = "return_top_up"  # likewise: a payment of theirs that is heard of too late (KC-121)


class StepState(StrEnum):
    """The life of a step.

    due → done | dropped | skipped | failed; skipped → due; a coalesced step that is asked for again: any → due.
    """

    DUE = "due"  # waiting for its instant, or claimed until its lease ends
    DONE = "done"
    DROPPED = "dropped"  # no longer wanted when its turn came
    SKIPPED = "skipped"  # cannot be done until something is configured (KC-88)
    FAILED = "failed"  # out of attempts or refused for good: an operator's


class Step(Value):
    """One thing to do. `key` is unique for ever: asking again under it does nothing.

    A `coalesced` step is the exception: asking again makes it due once more, and an answer to the earlier asking is
    not applied.
    """

    kind: StepKind
    key: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    coalesced: bool = False
