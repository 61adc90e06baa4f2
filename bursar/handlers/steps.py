"""The outcomes of steps and of calls to the instance API, as items to be decided under the account's lock."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.ledger import Credits, Reversal
from bursar.billing.credits.reversals import handed_over, invoices_found
from bursar.billing.decision import Decision
from bursar.billing.errors import AskAgain
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.outcomes import instance_brought_about, mail_settled
from bursar.billing.kiloclaw.reads import (
    SubscriptionsRead,
    asked_about_all,
    has_moved,
    may_settle,
    subscriptions_read,
    tells_of_the_row,
)
from bursar.billing.kiloclaw.rows import Hosting, MailKey
from bursar.billing.steps import StepState
from bursar.billing.values import Value, replace
from bursar.db.instances import ClaimedInstance
from bursar.db.items import Decide, Dedupe, Item, Situation, StepAnswer
from bursar.db.steps import ClaimedStep

# What a step needs to know before it is carried out, and the outcome of a read to be decided.
PARTS = frozenset[type[Any]]({Profile, Hosting})


class WantedMail(Value):
    """The payload of a mail's step."""

    mail: MailKey
    instants: Mapping[str, datetime]

    @classmethod
    def of(cls, payload: Mapping[str, Any]) -> "WantedMail":
        instants = {name: datetime.fromisoformat(at) for name, at in payload.get("instants", {}).items()}
        return cls(MailKey(payload["email_type"], payload["cycle"]), instants)


def mail_outcome(step: ClaimedStep, mail: MailKey, log_state: str, state: StepState, error: str | None = None) -> Item:
    """A mail was sent, refused, or left: the log says it in the transaction that ends the step (KC-87, KC-88)."""

    def decide(account: Account, _: Situation) -> Decision:
        return mail_settled(account, mail, log_state)

    return _answering(step, frozenset({Hosting}), decide, _answer(step, state, error))


def mail_stopped(step: ClaimedStep, state: StepState, error: str) -> Item:
    """A mail that could not be handed over: it is certainly not out, and no longer waits to be (KC-87)."""
    return mail_outcome(step, WantedMail.of(step.payload).mail, "failed", state, error)


def read_parts(account: Account, read: SubscriptionsRead) -> frozenset[type[Any]]:
    """What the outcome of a read about that account needs: Credits only where payments are to be settled (KC-31)."""
    return PARTS | {Credits} if may_settle(account, read) else PARTS


def read_outcome(
    step: ClaimedStep,
    read: SubscriptionsRead,
    catalogue: Catalogue,
    again_at: datetime,
    parts: frozenset[type[Any]] = PARTS,
) -> Item:
    """Stripe answered: asked again at `again_at` (real time) if the row moved meanwhile (KC-32).

    A destruction that is due is decided right here, on what was just read: the interlock (KC-74).
    """
    cause = _cause(step)

    def decide(account: Account, situation: Situation) -> Decision:
        if has_moved(account, read):
            raise AskAgain("the row moved while Stripe was asked")
        followed = subscriptions_read(account, read, catalogue, cause)
        if not tells_of_the_row(followed.account, read):
            return replace(followed, counts={**followed.counts, "own_subscription_unknown": 1})
        asked = asked_about_all(followed.account, read)
        facts = Circumstances(catalogue, situation.now, stripe_just_read=asked, slot_left=situation.slot_left)
        enforced = enforce(followed.account, facts, only={"destruction"})
        return (
            followed if enforced.account is followed.account and "stale" in enforced.counts else followed.then(enforced)
        )

    return _answering(step, parts, decide, _answer(step, StepState.DONE, again_at=again_at))


def invoice_found(step: ClaimedStep, reversal: Reversal, invoice_ids: tuple[str, ...], owner: str | None) -> Item:
    """Stripe said which invoices a refunded or disputed payment had paid (CR-11). `owner` is the key of the account
    whose ledger knows the payment, which it is decided for then.
    """

    def decide(account: Account, _: Situation) -> Decision:
        return (handed_over if owner else invoices_found)(account, reversal, invoice_ids)

    found = _answering(step, frozenset({Credits}), decide, _answer(step, StepState.DONE))
    return replace(found, key=owner) if owner else found


def step_ended(step: ClaimedStep, state: StepState, error: str | None = None, *, forgets: bool = False) -> Item:
    """The step ends and nothing else changes; whom it was about is erased with it where it `forgets` (KC-121)."""

    def decide(account: Account, _: Situation) -> Decision:
        return Decision(account, counts={f"step_{state}": 1})

    return _answering(step, frozenset(), decide, replace(_answer(step, state, error), forgets=forgets))


def instance_outcome(claimed: ClaimedInstance) -> Item:
    """The instance API brought that generation about (KC-73, KC-77, KC-91)."""

    def decide(account: Account, situation: Situation) -> Decision:
        return instance_brought_about(account, claimed.id, claimed.generation, situation.now)

    cause = f"instance:{claimed.id}:{claimed.generation}"
    return Item(cause, claimed.account_key, frozenset({Hosting}), decide, Dedupe.STATE)


def _answering(step: ClaimedStep, parts: frozenset[type[Any]], decide: Decide, answer: StepAnswer) -> Item:
    return Item(_cause(step), step.account_key, parts, decide, Dedupe.STEP, answer=answer)


def _answer(
    step: ClaimedStep, state: StepState, error: str | None = None, again_at: datetime | None = None
) -> StepAnswer:
    return StepAnswer(step.id, step.lease, step.asked, state, error, again_at)


def _cause(step: ClaimedStep) -> str:
    return f"step:{step.key}:{step.asked}:{step.attempts}"
