"""The sweeps that compare us with Stripe (MS-9, MS-10), and the ledger with itself (CR-4). A tick only asks for them:
each is a step, since it lasts, which neither a transaction nor a lane may wait for.
"""

from collections.abc import Mapping
from types import MappingProxyType

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.steps import Step, StepKind
from bursar.db.items import Dedupe, Item, Situation
from bursar.db.ticks import Tick

CHECKS: Mapping[str, StepKind] = MappingProxyType(
    {"gap_check": StepKind.GAP_CHECK, "reconcile": StepKind.RECONCILE, "audit": StepKind.AUDIT}
)


def check_key(sweep: str) -> str:
    """The account that a check's step belongs to."""
    return f"system:{sweep}"


def asking_for(sweep: str, tick: Tick) -> Item:
    """Ask for the check: one that still waits is due once, for the newest tick."""
    payload = {"tick_id": tick.id, "plan": tick.sweep}
    step = Step(CHECKS[sweep], f"check:{sweep}", payload, coalesced=True)

    def decide(account: Account, _: Situation) -> Decision:
        return Decision(account, (step,), counts={"asked": 1})

    cause = f"tick:{sweep}:{tick.due_at.isoformat()}"
    return Item(cause, check_key(sweep), frozenset(), decide, Dedupe.STATE)
