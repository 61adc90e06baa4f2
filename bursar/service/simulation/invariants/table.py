"""The table of all invariants."""

from collections import Counter
from collections.abc import Sequence

from bursar.service.simulation.invariants import (
    at_stripe,
    hosting,
    instances,
    mails,
    messages,
    money,
    payments,
    renewals,
    top_ups,
)
from bursar.service.simulation.invariants.form import Broken, Invariant
from bursar.service.simulation.truth import Truth

__all__ = ["ALL_ALONG", "AT_REST", "Broken", "check", "every_invariant"]

ALL_ALONG: tuple[Invariant, ...] = (
    *money.ALL_ALONG,
    *payments.ALL_ALONG,
    *renewals.ALL_ALONG,
    *top_ups.ALL_ALONG,
    *hosting.ALL_ALONG,
    *instances.ALL_ALONG,
    *mails.ALL_ALONG,
    *at_stripe.ALL_ALONG,
    *messages.ALL_ALONG,
)
AT_REST: tuple[Invariant, ...] = (
    *payments.AT_REST,
    *renewals.AT_REST,
    *top_ups.AT_REST,
    *hosting.AT_REST,
    *instances.AT_REST,
    *mails.AT_REST,
    *at_stripe.AT_REST,
    *messages.AT_REST,
)


def every_invariant() -> Sequence[Invariant]:
    """Those that are checked all along, then those at rest."""
    return (*ALL_ALONG, *AT_REST)


def check(invariants: Sequence[Invariant], truth: Truth) -> Counter[str]:
    """Raises `Broken` for the first that does not hold; how often each was checked."""
    for one in invariants:
        for problem in one.problems(truth):
            raise Broken(one.rule, one.sentence, problem)
    return Counter(f"{one.rule} {one.sentence}" for one in invariants)
