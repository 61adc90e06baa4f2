"""Credits: the commands of the product, and the payments that Stripe tells of, as items for `decide_batch` (CR)."""

from collections.abc import Callable, Mapping
from typing import Any

from bursar.billing.account import Account, Profile, user_key
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.arrivals import then_renewed
from bursar.billing.credits.checkout import check_out_credits
from bursar.billing.credits.deposits import payment_succeeded, top_up_invoice_paid
from bursar.billing.credits.enrolment import Enrolment, enroll
from bursar.billing.credits.ledger import Credits
from bursar.billing.credits.payments import (
    ChargeEvent,
    DisputeEvent,
    PaidInvoiceEvent,
    PaymentEvent,
    is_top_up,
)
from bursar.billing.credits.reversals import charge_refunded, dispute_closed
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.operations import Operations
from bursar.billing.values import replace
from bursar.db.items import Decide, Item, NewLease, Situation
from bursar.handlers.reading import mapping, view

PARTS = frozenset[type[Any]]({Profile, Hosting, Credits})  # a deposit pays at once what waits for it (CR-40)
ENROLMENT_PARTS = frozenset[type[Any]]({Profile, Hosting, Credits, Operations})


def enrolment_item(user_id: str, asked: Enrolment, catalogue: Catalogue) -> Item:
    """Pay hosting from credits (CR-20…CR-25)."""

    def decide(account: Account, facts: Situation) -> Decision:
        return enroll(account, asked, catalogue, facts.now)

    return Item(asked.command_id, user_key(user_id), ENROLMENT_PARTS, decide, actor="api")


def credit_checkout_item(
    command_id: str, user_id: str, amount_cents: int | None, return_url: str, catalogue: Catalogue, lease: NewLease
) -> Item:
    """Open a page on which the user buys credits (CR-10)."""

    def decide(account: Account, _: Situation) -> Decision:
        return check_out_credits(account, amount_cents, return_url, catalogue, command_id)

    parts = frozenset[type[Any]]({Profile, Operations})
    return Item(command_id, user_key(user_id), parts, decide, actor="api", lease=lease)


def auto_top_up_item(command_id: str, user_id: str, *, enabled: bool) -> Item:
    """Switch the automatic top-up on or off (CR-38)."""

    def decide(account: Account, _: Situation) -> Decision:
        known = account.part(Profile)
        told = account if known.auto_top_up == enabled else account.having(replace(known, auto_top_up=enabled))
        return Decision(told, reason="automatic top-up switched", result={"auto_top_up": enabled})

    return Item(command_id, user_key(user_id), frozenset({Profile}), decide, actor="api")


def payment(body: Any, catalogue: Catalogue) -> Decide:  # noqa: ANN401 - parsed JSON
    """`payment_intent.succeeded` (CR-10, CR-40)."""
    event = view(PaymentEvent, body)
    return _depositing(lambda account: payment_succeeded(account, event), catalogue, event.id)


def top_up_invoice(body: Any, catalogue: Catalogue) -> Decide:  # noqa: ANN401 - parsed JSON
    """`invoice.paid` of a top-up (CR-10, CR-40)."""
    event = view(PaidInvoiceEvent, body)
    return _depositing(lambda account: top_up_invoice_paid(account, event), catalogue, event.id)


def refund(body: Any, _: Catalogue) -> Decide:  # noqa: ANN401 - parsed JSON
    """`charge.refunded` (CR-11)."""
    event = view(ChargeEvent, body)
    return lambda account, _: charge_refunded(account, event)


def dispute(body: Any, _: Catalogue) -> Decide:  # noqa: ANN401 - parsed JSON
    """`charge.dispute.closed` (CR-11)."""
    event = view(DisputeEvent, body)
    return lambda account, _: dispute_closed(account, event)


def _depositing(deposit: Callable[[Account], Decision], catalogue: Catalogue, cause: str) -> Decide:
    def decide(account: Account, facts: Situation) -> Decision:
        deposited = deposit(account)
        is_new = deposited.account is not account
        return then_renewed(deposited, catalogue, facts.now, cause) if is_new else deposited

    return decide


def is_of_top_up(event: Any) -> bool:  # noqa: ANN401 - parsed JSON
    """Whether the object of an event says that it is a top-up's."""
    return is_top_up(metadata_of(event))


def payments_of_top_up(event: Any) -> tuple[str, ...]:  # noqa: ANN401 - parsed JSON
    """What the deposit of a paid top-up is keyed by; nothing of another event, as a refund's."""
    kind = mapping(mapping(mapping(event).get("data")).get("object")).get("object")
    if kind == "payment_intent":
        return (view(PaymentEvent, event).payment.id,)
    return (view(PaidInvoiceEvent, event).invoice.payment_id,) if kind == "invoice" else ()


def metadata_of(event: Any) -> Mapping[str, Any]:  # noqa: ANN401 - parsed JSON
    """The metadata of an event's object."""
    return mapping(mapping(mapping(mapping(event).get("data")).get("object")).get("metadata"))
