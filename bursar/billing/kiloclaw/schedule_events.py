"""What `subscription_schedule.*` does to a row: an end is noted, nothing else; the plan follows the price (KC-45)."""

from bursar.billing.account import Account
from bursar.billing.catalogue import Catalogue
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.phases import KeptSchedule
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.kiloclaw.scheduling import keep_steps, with_kept
from bursar.billing.stripe.schedules import ScheduleEvent


def schedule_event(account: Account, event: ScheduleEvent, catalogue: Catalogue) -> Decision:
    """The row's own schedule has ended, by its status: its fields are cleared, once. Ended is for ever, so that no
    order of events matters; what shall stand there now is looked up.
    """
    row, schedule = hosting_of(account).subscription, event.schedule
    if row is None or row.stripe_schedule_id != schedule.id:
        return Decision.nothing(account, "not_the_rows")
    if not schedule.has_ended:
        return Decision.nothing(account, "noted")
    cleared = with_kept(row, KeptSchedule(commit_ends_at=row.commit_ends_at))
    saved = with_row(account, cleared)
    steps = keep_steps(saved, cleared, catalogue) if row.status == "active" else ()
    return Decision(saved, steps, reason=f"schedule {schedule.status}", counts={"schedule_ended": 1})
