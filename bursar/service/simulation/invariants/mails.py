"""Mails: one per user, type and cycle, each for its reason, none for the deleted."""

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from bursar.service.simulation.facts import instant
from bursar.service.simulation.invariants.form import Invariant
from bursar.service.simulation.truth import Truth

TRIAL_MAILS = {
    "claw_trial_5d": (timedelta(days=1), timedelta(days=6)),
    "claw_trial_1d": (timedelta(0), timedelta(days=2)),
}
SUSPENSION_MAILS = ("claw_suspended_trial", "claw_suspended_subscription", "claw_suspended_payment")
FINAL = ("sent", "skipped", "rejected", "unknown", "dropped")


def one_mail_each(truth: Truth) -> Iterator[str]:
    for key, number in Counter(mail.key for mail in truth.simulation.outside.mails.sent).items():
        if number > 1:
            yield f"{key} was sent {number} times"


def trial_mails_in_time(truth: Truth) -> Iterator[str]:
    for mail in _new(truth):
        bounds = TRIAL_MAILS.get(mail["email_type"])
        row = truth.row_of(mail["user_id"])
        ends_at = instant(row["trial_ends_at"]) if row else None
        if bounds is None or ends_at is None:
            continue
        left = ends_at - truth.now
        if not bounds[0] <= left < bounds[1]:
            yield f"{mail['email_type']} for {mail['user_id']} with {left} left"


def suspension_mail_for_each(truth: Truth) -> Iterator[str]:
    for row in truth.facts["subscriptions"]:
        before = truth.row_before(row["user_id"]) or {}
        if not row["suspended_at"] or before.get("suspended_at") == row["suspended_at"]:
            continue
        kinds = [
            one["email_type"]
            for one in truth.facts["mails"]
            if one["user_id"] == row["user_id"]
            and one["email_type"] in SUSPENSION_MAILS
            and instant(one["cycle"]) == instant(row["suspended_at"])
        ]
        if len(kinds) != 1:
            yield f"{row['user_id']}, suspended {row['suspended_at']}, has the mails {kinds}"


def every_mail_ends(truth: Truth) -> Iterator[str]:
    for one in truth.facts["mails"]:
        if one["state"] not in FINAL:
            yield f"{one['email_type']} for {one['user_id']} is {one['state']}"


def sent_as_logged(truth: Truth) -> Iterator[str]:
    """What the log says was sent, was: unless the provider lied."""
    mails = truth.simulation.outside.mails
    handed_over = {mail.key for mail in mails.sent} | mails.lied_about
    for step in truth.facts["steps"]:
        if step["kind"] == "send_mail" and step["state"] == "done" and step["key"] not in handed_over:
            yield f"{step['key']} is done and was never sent"


def _new(truth: Truth) -> list[dict[str, str]]:
    before = {(one["user_id"], one["email_type"], one["cycle"]) for one in truth.before.get("mails", ())}
    return [one for one in truth.facts["mails"] if (one["user_id"], one["email_type"], one["cycle"]) not in before]


ALL_ALONG = (
    Invariant("KC-86", "a mail is sent at most once", one_mail_each),
    Invariant("KC-75", "trial warnings come in their days", trial_mails_in_time),
    Invariant("KC-85", "each suspension is told by one mail", suspension_mail_for_each),
)
AT_REST = (
    Invariant("KC-87", "every mail is sent, or it is known why not", every_mail_ends),
    Invariant("KC-87", "what is logged as sent was sent", sent_as_logged),
)
