"""The sweeps, in the order of the rules: enforcement runs before advice. They only find candidates for `enforce`."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from types import MappingProxyType

from bursar.billing.account import Account, Profile
from bursar.billing.catalogue import Catalogue
from bursar.billing.credits.ledger import Credits
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.enforcement import Circumstances, enforce
from bursar.billing.kiloclaw.rows import Hosting
from bursar.db.connections import Connection
from bursar.db.items import Dedupe, Item, Situation
from bursar.db.ticks import Tick
from bursar.sweeps import credit_renewals, destructions, earlybird_warnings, expiries, resumes, trial_warnings
from bursar.sweeps.checks import CHECKS
from bursar.sweeps.pages import Page, Window

DuePage = Callable[[Connection, Window], Awaitable[Page]]

CREDIT_RENEWAL = "credit_renewal"

SWEEPS: Mapping[str, DuePage] = MappingProxyType(
    {
        CREDIT_RENEWAL: credit_renewals.due_renewals,
        "resume": resumes.interrupted,
        "trial_expiry": expiries.ended_trials,
        "period_expiry": expiries.ended_periods,
        "destruction": destructions.passed_deadlines,
        "past_due": expiries.ended_grace,
        "destruction_warning": destructions.near_deadlines,
        "trial_warning": trial_warnings.ending_trials,
        "earlybird_warning": earlybird_warnings.ending_earlybirds,
    }
)
HOURLY = "hourly"
STEPS = "steps"  # overdue steps and old rows: not of one account, see `service/housekeeping.py`

# The names that ticks may have, each with the sweeps it runs, in order.
PLANS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {name: (name,) for name in (*SWEEPS, STEPS, *CHECKS)} | {HOURLY: (*SWEEPS, STEPS, *CHECKS)}
)

PARTS = frozenset[type]({Profile, Hosting, Credits})


async def due_page(connection: Connection, sweep: str, window: Window) -> Page:
    """The next accounts that a sweep finds, in the order of its own index."""
    return await SWEEPS[sweep](connection, window)


def candidate(key: str, sweep: str, tick: Tick, catalogue: Catalogue, found_at: datetime | None = None) -> Item:
    """An account that seems due; the decision looks at its state again, under the lock, and decides by now (KC-80).

    `found_at` is the instant by which the sweep found it: a renewal is an item of that boundary alone (CR-31).
    """
    boundary = found_at if sweep == CREDIT_RENEWAL else None
    cause = f"tick:{sweep}:{tick.due_at.isoformat()}"

    def decide(account: Account, situation: Situation) -> Decision:
        facts = Circumstances(catalogue, situation.now, slot_left=situation.slot_left, boundary=boundary, cause=cause)
        return enforce(account, facts, only={sweep})

    return Item(f"{cause}:{key}" + (f":{boundary.isoformat()}" if boundary else ""), key, PARTS, decide, Dedupe.STATE)
