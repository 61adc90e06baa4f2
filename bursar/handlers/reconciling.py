"""A repair that a reconciliation asks for, as an item to be decided under the account's lock (MS-10)."""

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.reconciling import Finding, repaired
from bursar.db.items import Dedupe, Item, Situation
from bursar.handlers.steps import PARTS


def repair_item(finding: Finding, account_key: str, catalogue: Catalogue) -> Item:
    """Nothing of it is done for a deleted user (KC-121)."""

    def decide(account: Account, situation: Situation) -> Decision:
        return repaired(account, finding, catalogue, situation.now)

    subscription_id = finding.stripe_subscription_id
    names = frozenset({f"subscription:{subscription_id}"})
    return Item(f"reconcile:{subscription_id}", account_key, PARTS, decide, Dedupe.STATE, names=names)
