"""Subscription schedules at Stripe: phases one after the other (KC-40…KC-47)."""

from datetime import datetime
from typing import Any

from pydantic import ConfigDict, Field

from bursar.billing.stripe_objects import Id, StripeObject

ENDED_SCHEDULE = frozenset({"released", "canceled", "completed"})


class PhaseItem(StripeObject):
    """What a phase sells."""

    price: Id
    quantity: int = 1


class SchedulePhase(StripeObject):
    """One phase, bounds in Stripe's time. Everything else that Stripe says of it is kept: a running phase is sent back
    whole, since what is omitted is dropped (KC-40).
    """

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

    start_date: datetime
    end_date: datetime
    items: tuple[PhaseItem, ...]
    trial_end: datetime | None = None
    discounts: tuple[dict[str, Any], ...] | None = None


class CurrentPhase(StripeObject):
    """The bounds of the phase that runs."""

    start_date: datetime
    end_date: datetime


class StripeSchedule(StripeObject):
    """A schedule. `subscription` is None before it starts and once it is released."""

    id: str
    status: str
    subscription: Id | None = None
    released_subscription: Id | None = None
    metadata: dict[str, str] = Field(default_factory=dict)
    phases: tuple[SchedulePhase, ...] = ()
    current_phase: CurrentPhase | None = None
    end_behavior: str = "release"

    @property
    def has_ended(self) -> bool:
        """By its status, not by an event's name (KC-45)."""
        return self.status in ENDED_SCHEDULE
