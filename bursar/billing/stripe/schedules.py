"""Subscription schedules at Stripe: phases one after the other (KC-40…KC-47)."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import AliasPath, ConfigDict, Field

from bursar.billing.stripe.objects import Id, Metadata, StripeObject

ENDED_SCHEDULE = frozenset({"released", "canceled", "completed"})


class PhaseItem(StripeObject):
    """What a phase sells, with everything else that Stripe says of it."""

    model_config = ConfigDict(frozen=True, extra="allow", populate_by_name=True)

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
    trial: bool | None = None
    trial_end: datetime | None = None
    discounts: tuple[dict[str, Any], ...] | None = None

    @property
    def is_trial(self) -> bool:
        """Whether nothing is charged for the whole of it."""
        return bool(self.trial) or (self.trial_end is not None and self.trial_end >= self.end_date)


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
    metadata: Metadata = Field(default_factory=dict)
    phases: tuple[SchedulePhase, ...] = ()
    current_phase: CurrentPhase | None = None
    end_behavior: str = "release"

    @property
    def has_ended(self) -> bool:
        """By its status, not by an event's name (KC-45)."""
        return self.status in ENDED_SCHEDULE

    @property
    def remaining(self) -> tuple[SchedulePhase, ...]:
        """The phase that runs and those to come; Stripe goes on showing the past ones."""
        if self.current_phase is None:
            return ()
        return tuple(phase for phase in self.phases if phase.start_date >= self.current_phase.start_date)


class ScheduleEvent(StripeObject):
    """`subscription_schedule.*`."""

    id: str
    type: str
    created: datetime
    schedule: Annotated[StripeSchedule, Field(validation_alias=AliasPath("data", "object"))]
