"""A command takes the same path as a message: one item, decided under the account's lock."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import asyncpg

from bursar.billing.operations import IN_PROGRESS
from bursar.billing.values import replace
from bursar.db import idempotency
from bursar.db.decide import Also
from bursar.db.items import Dedupe, Item, OutcomeState
from bursar.service.deciding.decider import CONTENTION, AccountBusy, Decider
from bursar.service.web.problems import refused

# What the database refused, by the constraint that did.
_TAKEN = MappingProxyType(
    {
        "users_stripe_customer_id_key": ("stripe_customer_taken", "This Stripe customer belongs to another user."),
        "kiloclaw_earlybird_purchases_payment_id_key": ("payment_taken", "This payment belongs to another user."),
        "steps_one_operation": IN_PROGRESS,
    }
)


async def decided(decider: Decider, item: Item) -> Mapping[str, Any]:
    """Decide a command and return its answer; raises what the decision raised, or `DatabaseUnavailable`.

    One that had its effect before, but whose answer was lost, is answered the same. One that was refused is decided
    again on the state as it is now, and so is one whose key the release before claimed: most find their own effect.
    """
    [outcome] = await decider.decide([item])
    if outcome.state is OutcomeState.DUPLICATE:
        if (kept := await kept_result(decider, item)) is not None:
            return kept
        [outcome] = await decider.decide([replace(item, dedupe=Dedupe.STATE)])
    if outcome.error:
        raise translated(outcome.error)
    return (outcome.decision.result if outcome.decision else None) or {}


async def kept_result(decider: Decider, item: Item) -> Mapping[str, Any] | None:
    """What a command answered that was decided before under the same key; None where that was not kept."""
    return await decider.with_connection(lambda connection: idempotency.result_of(connection, item.id))


async def decided_together(decider: Decider, item: Item, locked: Item, also: Also) -> Mapping[str, Any]:
    """Decide a command while another account is locked too, with what `also` writes in the same transaction."""
    try:
        [_, outcome] = await decider.decide_together([locked, item], also)
    except CONTENTION:
        raise AccountBusy("the account is busy") from None
    except asyncpg.UniqueViolationError as error:
        raise translated(error) from None
    if outcome.error:
        raise outcome.error
    return (outcome.decision.result if outcome.decision else None) or {}


def translated(error: Exception) -> Exception:
    """What the caller is told of an error: a constraint that was broken has a code of its own."""
    if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name in _TAKEN:
        return refused(*_TAKEN[error.constraint_name])
    return error
