"""Money that has come: what it pays at once (CR-40), and how an automatic top-up ends (CR-38, CR-39)."""

from datetime import datetime

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits import auto_top_up
from bursar.billing.credits.auto_top_up import AutoTopUp, is_for
from bursar.billing.credits.deposits import top_up_deposited
from bursar.billing.credits.ledger import MICRODOLLARS_PER_CENT, ChargesStopped
from bursar.billing.credits.renewal import RENEWED, Renewal, renew
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.operations import Ended, Operation, OperationFacts
from bursar.billing.values import replace

CAUSE = "step:top-up"  # of its entries: they outlive a user whom the step's whole key names (KC-121)
DECLINES = frozenset({auto_top_up.DECLINED, auto_top_up.REQUIRES_ACTION})


def then_renewed(decided: Decision, catalogue: Catalogue, now: datetime, cause: str) -> Decision:
    """The decision, and after it the renewals that its money was waited for, in the same transaction (CR-40).

    Each is an item of one period (CR-32); the next follows while they succeed. Parts: Profile, Hosting, Credits. Money
    stays whatever becomes of them: one that is refused, or beyond the bound of follow-ups, is the sweep's.
    """
    item = Renewal(None, now, cause)

    def renewal(account: Account) -> Decision:
        row = hosting_of(account).subscription
        renewed = (row and renew(account, row, item, catalogue)) or Decision(account)
        return replace(renewed, follow_ups=(renewal,)) if RENEWED in renewed.counts else renewed

    return replace(decided, follow_ups=(*decided.follow_ups, renewal))


def topped_up(account: Account, asked: AutoTopUp, ended: Ended, facts: OperationFacts) -> Decision:
    """Deposit what was paid, under the payment's id, so that its event adds nothing; a decline switches the automatic
    top-up off. Either way the renewal is decided at once: paid, or past due with its mail (CR-39). A
    failure of which another payment came first says nothing of the boundary that is reached now.

    What Stripe refuses for reasons of ours leaves the switch, but the row is past due all the same: CR-39 asks for no
    more than the marker and too little money. One that is no longer wanted was not tried: its marker goes, and the
    renewal is decided as if it had never been asked for.
    """
    if ended.is_unwanted:
        untried = _unmarked(account, asked)
        stale = Decision(untried or account, reason="automatic top-up not tried", counts={"stale": 1})
        return then_renewed(stale, facts.catalogue, facts.now, CAUSE) if untried else stale
    if ended.result and ended.result["status"] != auto_top_up.SUCCEEDED:
        return Decision.nothing(account, "top_up_processing")
    if ended.result:
        amount = ended.result["amount_cents"] * MICRODOLLARS_PER_CENT
        deposited = top_up_deposited(account, ended.result["payment_id"], amount, CAUSE)
        return then_renewed(deposited, facts.catalogue, facts.now, CAUSE)
    failed, row = _failed(account, ended), hosting_of(account).subscription
    still_waits = row is not None and row.credit_renewal_at == asked.boundary
    return then_renewed(failed, facts.catalogue, facts.now, CAUSE) if still_waits else failed


def still_wanted(account: Account, asked: AutoTopUp, facts: OperationFacts) -> bool:
    """Whether the renewal, decided now and without its marker, would ask for the very same top-up (CR-31, CR-38); not
    while charges are stopped, since it would pay nothing (CR-4).
    """
    untried = _unmarked(account, asked)
    row = hosting_of(untried).subscription if untried else None
    if untried is None or row is None:
        return False
    try:
        renewed = renew(untried, row, Renewal(asked.boundary, facts.now, facts.cause), facts.catalogue)
    except ChargesStopped:
        return False
    return renewed is not None and any(is_for(step, asked) for step in renewed.steps)


def _unmarked(account: Account, asked: AutoTopUp) -> Account | None:
    """The account as it was before the top-up was asked for; None where its row no longer waits for it."""
    row = hosting_of(account).subscription
    if row is None or row.top_up_boundary != asked.boundary:
        return None
    return with_row(account, replace(row, top_up_boundary=None))


def _failed(account: Account, ended: Ended) -> Decision:
    profile, is_decline = account.part(Profile), ended.failure is not None and ended.failure.code in DECLINES
    if not is_decline or not profile.auto_top_up:
        return Decision(account, counts={"top_up_failed": 1})
    switched_off = account.having(replace(profile, auto_top_up=False))
    return Decision(switched_off, reason="automatic top-up declined", counts={"top_up_declined": 1})


AUTO_TOP_UP = Operation(auto_top_up.NAME, AutoTopUp, auto_top_up.plan, topped_up, still_wanted)
