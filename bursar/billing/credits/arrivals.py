"""Money that has come: what it pays at once (CR-40), and how an automatic top-up ends (CR-38, CR-39)."""

from dataclasses import replace
from datetime import datetime

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits import auto_top_up
from bursar.billing.credits.auto_top_up import AutoTopUp
from bursar.billing.credits.deposits import top_up_deposited
from bursar.billing.credits.ledger import MICRODOLLARS_PER_CENT
from bursar.billing.credits.renewal import Renewal, renew
from bursar.billing.decision import Decision
from bursar.billing.errors import BursarError
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.operations import Ended, Operation, OperationFacts

DECLINES = frozenset({auto_top_up.DECLINED, auto_top_up.REQUIRES_ACTION})


def then_renewed(decided: Decision, catalogue: Catalogue, now: datetime, cause: str) -> Decision:
    """The decision, and the renewal that its money was waited for, in the same transaction (CR-40).

    Parts: Profile, Hosting, Credits. Money stays whatever becomes of the renewal: one that is refused is the sweep's.
    """
    hosting = hosting_of(decided.account)
    row = hosting.subscription
    if row is None:
        return decided
    try:
        renewed = renew(decided.account, row, Renewal(None, now, cause), catalogue)
    except BursarError:
        return replace(decided, counts={**decided.counts, "renewal_left_to_the_sweep": 1})
    return decided.then(renewed) if renewed else decided


def topped_up(account: Account, asked: AutoTopUp, ended: Ended, facts: OperationFacts) -> Decision:
    """Deposit what was paid, under the payment's id, so that its event adds nothing; a decline switches the automatic
    top-up off. Either way the renewal is decided at once: paid, or past due with its mail (CR-39).
    """
    if ended.result and ended.result["status"] != auto_top_up.SUCCEEDED:
        return Decision.nothing(account, "top_up_processing")
    row = hosting_of(account).subscription
    if ended.result:
        amount = ended.result["amount_cents"] * MICRODOLLARS_PER_CENT
        decided = top_up_deposited(account, ended.result["payment_id"], amount, facts.cause)
    else:
        decided = _failed(account, ended)
    if row is None or row.credit_renewal_at != asked.boundary:
        return decided
    return then_renewed(decided, facts.catalogue, facts.now, facts.cause)


def _failed(account: Account, ended: Ended) -> Decision:
    profile, is_decline = account.part(Profile), ended.failure is not None and ended.failure.code in DECLINES
    if not is_decline or not profile.auto_top_up:
        return Decision(account, counts={"top_up_failed": 1})
    switched_off = account.having(replace(profile, auto_top_up=False))
    return Decision(switched_off, reason="automatic top-up declined", counts={"top_up_declined": 1})


AUTO_TOP_UP = Operation(auto_top_up.NAME, AutoTopUp, auto_top_up.plan, topped_up)
