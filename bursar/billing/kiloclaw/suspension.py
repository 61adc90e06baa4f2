"""Suspending, resuming and destroying: the only places that change the suspension of a row."""

from datetime import datetime, timedelta

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.mail import MailType, cycle_of, send_once
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import MailKey, Status, Subscription, hosting_of, with_instance
from bursar.billing.values import replace


def suspend(
    account: Account,
    row: Subscription,
    status: Status,
    mail: MailType,
    catalogue: Catalogue,
    now: datetime,
    reason: str,
) -> Decision:
    """Suspend the row and stop its instance, with the mail and the deadline of destruction (KC-60, KC-70, KC-71)."""
    deadline = now + timedelta(days=catalogue.kiloclaw.grace.destruction_days)
    suspended = replace(row, status=status, suspended_at=now, destruction_deadline=deadline)
    instance = hosting_of(account).row_instance
    stopped = with_instance(with_row(account, suspended), instance.wanting("stopped") if instance else None)
    sent = send_once(stopped, MailKey(mail, cycle_of(now)), {"suspended_at": now, "destruction_deadline": deadline})
    return replace(sent, reason=reason, counts={**sent.counts, "changed": 1})


def start_again(account: Account) -> Account:
    """Want the row's instance running again; with no live one the user provisions anew (KC-90)."""
    instance = hosting_of(account).row_instance
    return with_instance(account, instance.wanting("running") if instance else None)


def resumed(account: Account) -> Account:
    """Free the row of its suspension, whatever its status, where its instance can run: something else covers it."""
    hosting = hosting_of(account)
    row = hosting.subscription
    if row is None or row.suspended_at is None or hosting.row_instance is None:
        return account
    return start_again(with_row(account, replace(row, suspended_at=None, destruction_deadline=None)))


def mark_destroying(account: Account, row: Subscription, now: datetime) -> Decision:
    """Mark the row's instance for destruction; without a live one the row just loses its deadline (KC-73)."""
    instance = hosting_of(account).row_instance
    if instance is None:
        cleared = with_row(account, replace(row, destruction_deadline=None))
        return Decision(cleared, reason="nothing left to destroy")
    marked = replace(instance.wanting("destroyed"), destroying_since=now)
    return Decision(
        with_instance(account, marked),
        reason="grace after suspension is over",
        counts={"changed": 1},
        destruction_slots=1,
    )
