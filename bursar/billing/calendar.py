"""Calendar arithmetic in UTC."""

from datetime import UTC, datetime

from dateutil.relativedelta import relativedelta


def add_months(instant: datetime, months: int) -> datetime:
    """Add calendar months, keeping the day and clamping it to the end of a shorter month."""
    return instant + relativedelta(months=months)


def next_boundary(anchor: datetime, boundary: datetime, months: int) -> datetime:
    """The boundary that many months after another one of the same anchor, whose day of the month it keeps: 31 January,
    28 February, 31 March.
    """
    since = (boundary.year - anchor.year) * 12 + boundary.month - anchor.month
    return add_months(anchor, since + months)


def from_unix(seconds: int) -> datetime:
    """Stripe's timestamps (Unix seconds) as an instant in UTC."""
    return datetime.fromtimestamp(seconds, UTC)


def in_utc(instant: datetime) -> datetime:
    """The same instant, by the UTC that our rows have: instants of one zone compare in a twentieth of the time, and one
    is compared a dozen times.
    """
    return instant if instant.tzinfo is UTC else instant.astimezone(UTC)


def whole_days_until(instant: datetime, now: datetime) -> int:
    """Whole days from now until the instant, floored, never negative (KC-110)."""
    return max(0, (instant - now).days)
