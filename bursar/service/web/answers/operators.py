"""Answers to operators and schedulers: ticks, dry runs, the test clock and figures."""

from typing import Literal

from pydantic import AwareDatetime, Field

from bursar.billing.catalogue import Plan
from bursar.billing.kiloclaw.foreseeing import EffectKind
from bursar.billing.kiloclaw.rows import Status
from bursar.db.ticks import TickState
from bursar.service.web.answers import Answer, example


class PublishedTickAnswer(Answer):
    """The tick; the same sweep and instant again is the same one."""

    model_config = example(id=12)

    id: int


class TickAnswer(Answer):
    """How far a tick is."""

    model_config = example(
        id=12,
        sweep="trial_expiry",
        due_at="2026-06-01T08:00:00Z",
        state="done",
        counts={"trial_expiry": {"found": 3, "changed": 2}},
    )

    id: int
    sweep: str
    due_at: AwareDatetime
    state: TickState = Field(description="`superseded`: a later tick of the sweep did its work.")
    counts: dict[str, dict[str, int]] = Field(description="How many of what, by sweep, so far.")


class EffectAnswer(Answer):
    """One thing that a sweep would cause."""

    sweep: str
    kind: EffectKind
    account_key: str
    subject: str | None = Field(description="A mail's type, else the instance.")
    reason: str
    condition: str = Field(description="What would have to hold as well; empty for what is certain.")


class DryRunAnswer(Answer):
    """A page of what the sweep would cause."""

    model_config = example(
        sweep="trial_expiry",
        now="2026-07-01T08:00:00Z",
        effects=[
            {
                "sweep": "trial_expiry",
                "kind": "suspension",
                "account_key": "user:ada",
                "subject": "inst-1",
                "reason": "trial ended",
                "condition": "",
            }
        ],
        next_cursor=None,
    )

    sweep: str
    now: AwareDatetime = Field(description="Business time when the first page was asked for.")
    effects: list[EffectAnswer]
    next_cursor: str | None = Field(description="The `cursor` of the next page; null after the last.")


class ClockAnswer(Answer):
    """Business time."""

    model_config = example(now="2026-06-01T08:00:00Z")

    now: AwareDatetime


class Waiting(Answer):
    """What waits: what could be done now, and what is not due yet."""

    due_now: int
    due_later: int


class WaitingSteps(Waiting):
    """Steps that wait, and those that came to no good end."""

    skipped: int
    failed: int


class SubscriptionRows(Answer):
    """Rows of one plan and status."""

    plan: Plan
    status: Status
    rows: int
    suspended: int


class FiguresAnswer(Answer):
    """What was handled and what waits, as of one instant."""

    inbox: int = Field(description="Messages that were decided.")
    steps: WaitingSteps
    retries: Waiting = Field(description="Messages that failed and are tried again.")
    instances_not_brought_about: Waiting
    parked: dict[str, int] = Field(description="Messages that failed, by state.")
    subscriptions: list[SubscriptionRows]
    ticks_running: int


class CheckAnswer(Answer):
    """One thing that must hold for the process to be of use."""

    name: str
    ok: bool
    detail: str


class ReadinessAnswer(Answer):
    """Whether the process can do its work now."""

    model_config = example(ready=True, checks=[{"name": "database", "ok": True, "detail": ""}])

    ready: bool
    checks: list[CheckAnswer]


class AliveAnswer(Answer):
    """The process lives."""

    status: Literal["alive"]


class ReceivedAnswer(Answer):
    """The event is safe: published, parked, or none that is handled."""

    received: Literal[True]
