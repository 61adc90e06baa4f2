"""The table of messages: for each type, how it is read, which parts of the account it needs, and which decision it
calls.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from bursar.billing.account import CUSTOMER_PREFIX, PAYMENT_PREFIX, Account, customer_key, payment_key, user_key
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.ledger import Credits
from bursar.billing.credits.payments import is_top_up
from bursar.billing.credits.settlement import payments_of
from bursar.billing.decision import Decision
from bursar.billing.errors import UnreadableMessage
from bursar.billing.kiloclaw.rows import Hosting
from bursar.billing.kiloclaw.schedule_events import schedule_event
from bursar.billing.kiloclaw.stripe_events import invoice_event, subscription_event
from bursar.billing.stripe.invoices import InvoiceEvent
from bursar.billing.stripe.objects import StripeInvoiceEvent, SubscriptionEvent, subscription_details
from bursar.billing.stripe.schedules import ScheduleEvent
from bursar.billing.stripe.usual_invoices import usual_invoice_event
from bursar.billing.values import Value, field
from bursar.db import users
from bursar.db.connections import Connection
from bursar.db.early_reversals import keys_of_payments
from bursar.db.items import Decide, Item, MessageCopy
from bursar.handlers.credits import PARTS as CREDIT_PARTS
from bursar.handlers.credits import dispute, is_of_top_up, payment, payments_of_top_up, refund, top_up_invoice
from bursar.handlers.late_top_ups import late_invoice, late_payment
from bursar.handlers.reading import mapping, parsed, view

STRIPE = "stripe."
PAYMENT_SUCCEEDED, CHARGE_REFUNDED = "payment_intent.succeeded", "charge.refunded"
MAX_BODY_BYTES = 1 << 20  # what the relay accepts

TooLate = Callable[[Account, Any], Decision]


class ReceivedMessage(Value):
    """A message as the broker delivered it. `account` is the account key of its header."""

    message_id: str
    type: str
    account: str
    body: bytes
    occurred_at: datetime | None = None
    traceparent: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)


class Reading(Value):
    """What a message says: its decision, which parts of the account that needs, what else it is about, and of which
    payments alone the ledger is asked.
    """

    decide: Decide
    parts: frozenset[type[Any]]
    names: frozenset[str]
    payments: frozenset[str] | None = None


class Handler(Value):
    """One message type: how its body is read, and what it causes for a user who was deleted; else nothing."""

    read: Callable[[bytes, Catalogue], Reading]
    too_late: TooLate | None = None


def _by_way_of_json(
    parts: frozenset[type[Any]], decide_on: Callable[[Any, Catalogue], Decide], too_late: TooLate | None = None
) -> Handler:
    """For messages that are read by way of all their JSON, and whose decision needs these parts."""

    def read(body: bytes, catalogue: Catalogue) -> Reading:
        event = parsed(body)
        return Reading(decide_on(event, catalogue), parts, _names_of(event))

    return Handler(read, too_late)


def _subscription(body: Any, catalogue: Catalogue) -> Decide:  # noqa: ANN401 - parsed JSON
    event = view(SubscriptionEvent, body)
    return lambda account, _: subscription_event(account, event, catalogue)


def _schedule(body: Any, catalogue: Catalogue) -> Decide:  # noqa: ANN401 - parsed JSON
    event = view(ScheduleEvent, body)
    return lambda account, _: schedule_event(account, event, catalogue)


def _paid_invoice(body: bytes, catalogue: Catalogue) -> Reading:
    """A top-up's is a deposit, whatever else it says; any other is a subscription's, or nobody's. It needs the ledger
    where it may be settled; most say that their subscription is paid directly (KC-21).
    """
    try:
        event = _invoice_event(body)
    except UnreadableMessage:
        if not is_of_top_up(parsed(body)):
            raise
        return _TOP_UP_INVOICE.read(body, catalogue)
    if is_top_up(event.invoice.metadata):
        return _TOP_UP_INVOICE.read(body, catalogue)
    details = event.invoice.of_subscription
    may_be_in_credits = details is not None and details.metadata.get("funding") != "direct"
    return _of_invoice(event, _HOSTING | {Credits} if may_be_in_credits else _HOSTING, catalogue)


def _failed_invoice(body: bytes, catalogue: Catalogue) -> Reading:
    return _of_invoice(_invoice_event(body), _HOSTING, catalogue)


def _invoice_event(body: bytes) -> InvoiceEvent:
    return usual_invoice_event(body) or view(StripeInvoiceEvent, parsed(body)).read()


def _of_invoice(event: InvoiceEvent, parts: frozenset[type[Any]], catalogue: Catalogue) -> Reading:
    def decide(account: Account, _: object) -> Decision:
        return invoice_event(account, event, catalogue)

    details = event.invoice.of_subscription
    names = frozenset({f"subscription:{details.subscription}"} if details else ())
    return Reading(decide, parts, names, payments_of(event.invoice))


_HOSTING = frozenset[type[Any]]({Hosting})
_TOP_UP_INVOICE = _by_way_of_json(CREDIT_PARTS, top_up_invoice)

HANDLERS: Mapping[str, Handler] = MappingProxyType(
    {
        STRIPE + "customer.subscription.created": _by_way_of_json(_HOSTING, _subscription),
        STRIPE + "customer.subscription.updated": _by_way_of_json(_HOSTING, _subscription),
        STRIPE + "customer.subscription.deleted": _by_way_of_json(_HOSTING, _subscription),
        STRIPE + "customer.subscription.paused": _by_way_of_json(_HOSTING, _subscription),
        STRIPE + "customer.subscription.resumed": _by_way_of_json(_HOSTING, _subscription),
        STRIPE + "subscription_schedule.created": _by_way_of_json(_HOSTING, _schedule),
        STRIPE + "subscription_schedule.updated": _by_way_of_json(_HOSTING, _schedule),
        STRIPE + "subscription_schedule.released": _by_way_of_json(_HOSTING, _schedule),
        STRIPE + "subscription_schedule.canceled": _by_way_of_json(_HOSTING, _schedule),
        STRIPE + "subscription_schedule.completed": _by_way_of_json(_HOSTING, _schedule),
        STRIPE + "subscription_schedule.aborted": _by_way_of_json(_HOSTING, _schedule),
        STRIPE + "invoice.paid": Handler(_paid_invoice, late_invoice),
        STRIPE + "invoice.payment_failed": Handler(_failed_invoice),
        STRIPE + PAYMENT_SUCCEEDED: _by_way_of_json(CREDIT_PARTS, payment, late_payment),
        STRIPE + CHARGE_REFUNDED: _by_way_of_json(CREDIT_PARTS, refund),
        STRIPE + "charge.dispute.closed": _by_way_of_json(CREDIT_PARTS, dispute),
    }
)

# What the relay accepts; every other type is counted and dropped.
HANDLED_STRIPE_TYPES = frozenset(name.removeprefix(STRIPE) for name in HANDLERS if name.startswith(STRIPE))


def item_of(message: ReceivedMessage, account_key: str, catalogue: Catalogue) -> Item:
    """The message as an item for `decide_batch`; UnreadableMessage when its form or content cannot be read (MS-6)."""
    handler = HANDLERS.get(message.type)
    if handler is None:
        raise UnreadableMessage(f"no handler for messages of type {message.type[:80]!r}")
    if not message.message_id or not account_key:
        raise UnreadableMessage("a message needs an id and an account")
    reading = handler.read(message.body, catalogue)
    return Item(
        message.message_id,
        account_key,
        reading.parts,
        reading.decide,
        copy=copy_of(message),
        names=reading.names,
        too_late=partial(too_late, message=message),
        payments=reading.payments,
    )


def _names_of(body: Any) -> frozenset[str]:  # noqa: ANN401 - parsed JSON
    """What may have been erased with a deleted user: the subscription, and the payment of a top-up, as neither is of
    whoever comes back under their id (KC-121).
    """
    subscription_id = subscription_of_event(body)
    names = [f"subscription:{subscription_id}"] if subscription_id else []
    if is_of_top_up(body):
        names += [payment_key(payment_id) for payment_id in payments_of_top_up(body)]
    return frozenset(names)


def too_late(account: Account, message: ReceivedMessage) -> Decision:
    """What a message causes whose user was deleted: nothing, unless it brings money that must go back (KC-121)."""
    handler = HANDLERS.get(message.type)
    if handler is None or handler.too_late is None:
        return Decision.nothing(account, "deleted_user")
    return handler.too_late(account, parsed(message.body))


def copy_of(message: ReceivedMessage) -> MessageCopy:
    """What is kept of a message that fails."""
    return MessageCopy(message.type, message.headers, message.body)


def account_of_event(event: Mapping[str, Any]) -> str | None:
    """Whose a Stripe event is: by the user in its metadata, else by its customer, else, of a dispute, by its payment;
    None when it names none of them.
    """
    stripe_object = mapping(mapping(event.get("data")).get("object"))
    details = mapping(subscription_details(stripe_object))
    for metadata in (mapping(stripe_object.get("metadata")), mapping(details.get("metadata"))):
        user_id = metadata.get("userId")
        if isinstance(user_id, str) and user_id:
            return user_key(user_id)
    customer = stripe_object.get("customer")
    customer_id = customer.get("id") if isinstance(customer, dict) else customer
    if isinstance(customer_id, str) and customer_id:
        return customer_key(customer_id)
    return _payment_of(stripe_object)


def is_nobodys(event_type: str, event: Mapping[str, Any]) -> bool:
    """Whether an event of a handled type is none of our business: most payments are no top-ups (CR-10)."""
    if event_type == PAYMENT_SUCCEEDED:
        return not is_of_top_up(event)
    return event_type == CHARGE_REFUNDED and account_of_event(event) is None


def subscription_of_event(event: Any) -> str | None:  # noqa: ANN401 - parsed JSON
    """The subscription that a Stripe event is about or names."""
    stripe_object = mapping(mapping(mapping(event).get("data")).get("object"))
    details = mapping(subscription_details(stripe_object))
    named = details.get("subscription") or stripe_object.get("subscription")
    is_itself = stripe_object.get("object") == "subscription"
    found = stripe_object.get("id") if is_itself else mapping(named).get("id", named)
    return found if isinstance(found, str) else None


async def resolve_accounts(connection: Connection, keys: set[str]) -> dict[str, str]:
    """Account keys by Stripe customer or payment, turned into their users' where these are known; the others stay."""
    customers = [key.removeprefix(CUSTOMER_PREFIX) for key in keys if key.startswith(CUSTOMER_PREFIX)]
    payments = [key.removeprefix(PAYMENT_PREFIX) for key in keys if key.startswith(PAYMENT_PREFIX)]
    known = dict[str, str]()
    if customers:
        owners = await users.keys_of_customers(connection, customers)
        known |= {customer_key(customer_id): owner for customer_id, owner in owners.items()}
    if payments:
        payers = await keys_of_payments(connection, payments)
        known |= {payment_key(payment_id): payer for payment_id, payer in payers.items()}
    return {key: known.get(key, key) for key in keys}


def _payment_of(stripe_object: Mapping[str, Any]) -> str | None:
    """A dispute names its payment alone."""
    if stripe_object.get("object") != "dispute":
        return None
    paid = stripe_object.get("payment_intent") or stripe_object.get("charge")
    payment_id = mapping(paid).get("id", paid)
    return payment_key(payment_id) if isinstance(payment_id, str) and payment_id else None
