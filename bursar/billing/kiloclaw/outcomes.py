"""What the outcomes of steps mean: an instance brought about (KC-73, KC-77), a mail sent or not (KC-87, KC-88)."""

from datetime import datetime

from bursar.billing.account import Account, Profile, user_id_of
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.mail import OVERTAKEN_BY, MailType, cycle_of, send_once, with_mail_state
from bursar.billing.kiloclaw.row_changes import with_row
from bursar.billing.kiloclaw.rows import Instance, MailKey, hosting_of, with_instance
from bursar.billing.values import replace


def instance_brought_about(account: Account, instance_id: str, generation: int, now: datetime) -> Decision:
    """Record the generation that was brought about; a destroyed instance ends its row's deadline, with the mail
    (KC-73).
    """
    instance = next((one for one in hosting_of(account).instances if one.id == instance_id), None)
    if instance is None or instance.destroyed_at or generation <= instance.done_generation:
        return Decision.nothing(account, "overtaken")
    done = replace(instance, done_generation=generation)
    if not (done.desired_state == "destroyed" and done.generation == generation):
        return Decision(
            with_instance(account, done), reason=f"generation {generation} brought about", counts={"done": 1}
        )
    return _destroyed(account, replace(done, destroyed_at=now), now)


def mail_settled(account: Account, mail: MailKey, state: str) -> Decision:
    """Write into the mail log how the mail went."""
    return Decision(with_mail_state(account, mail, state), reason=f"mail {state}", counts={f"mail_{state}": 1})


def mail_still_wanted(account: Account, mail: MailKey) -> bool:
    """Whether a mail is still true (KC-88): nobody deleted, the suspension it tells of still stands, the trial still
    runs, earlybird is still the only cover, the renewal is still unpaid.
    """
    profile, hosting = account.part(Profile), hosting_of(account)
    row = hosting.subscription
    is_overtaken = OVERTAKEN_BY.get(mail.email_type) in hosting.mails
    if profile.deleted_at or user_id_of(account.key) is None or is_overtaken:
        return False
    if mail.email_type in (MailType.TRIAL_5D, MailType.TRIAL_1D):
        return row is not None and row.status == "trialing"
    if mail.email_type in (MailType.EARLYBIRD_14D, MailType.EARLYBIRD_1D):
        return row is None or row.status not in ("active", "trialing")
    if mail.email_type == MailType.INSTANCE_DESTROYED:
        return True
    if mail.email_type == MailType.DESTRUCTION_WARNING and not (
        hosting.row_instance and row and row.destruction_deadline
    ):
        return False
    is_of_dunning = mail.email_type == MailType.CREDIT_RENEWAL_FAILED
    begun_at = (row.past_due_since if is_of_dunning else row.suspended_at) if row else None
    return begun_at is not None and cycle_of(begun_at) == mail.cycle


def _destroyed(account: Account, instance: Instance, now: datetime) -> Decision:
    gone = with_instance(account, instance)
    row = hosting_of(gone).subscription
    if row is None or row.instance_id != instance.id:
        return Decision(gone, reason="destroyed", counts={"done": 1})
    cycle = cycle_of(row.suspended_at or instance.destroying_since or now)
    cleared = with_row(gone, replace(row, destruction_deadline=None))
    sent = send_once(cleared, MailKey(MailType.INSTANCE_DESTROYED, cycle), {"destroyed_at": now})
    return replace(sent, reason="instance destroyed", counts={**sent.counts, "done": 1})
