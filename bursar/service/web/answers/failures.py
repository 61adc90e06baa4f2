"""Answers to operators about what failed: parked messages and renewals."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from bursar.db.renewal_failures import FailureState
from bursar.service.operators.renewing import RetryOutcome
from bursar.service.operators.replaying import ReplayOutcome
from bursar.service.web.answers import Answer, example

ParkedState = Literal["retrying", "parked", "replayed", "discarded"]


class ParkedMessageAnswer(Answer):
    """A message that failed. Instants are real time."""

    id: int
    message_id: str
    account_key: str | None
    type: str
    state: ParkedState
    error: str
    attempts: int
    first_failed_at: AwareDatetime
    last_failed_at: AwareDatetime
    retry_at: AwareDatetime | None = Field(description="Null unless it is tried again by itself.")


class ParkedMessagesAnswer(Answer):
    """A page of messages that failed, newest first."""

    messages: list[ParkedMessageAnswer]
    next_cursor: int | None = Field(description="The `cursor` of the next page; null after the last.")


class ActionAnswer(Answer):
    """What an operator did; with an `error` it failed and changed nothing."""

    action: str
    actor: str
    reason: str
    error: str | None
    acted_at: AwareDatetime


class ParkedInFullAnswer(ParkedMessageAnswer):
    """A message with its headers, and what was done with it. Its body is not shown: it may hold addresses."""

    headers: dict[str, Any]
    body_bytes: int
    actions: list[ActionAnswer]


class ForetoldChange(Answer):
    """A row that would change: the fields that differ."""

    account_key: str
    entity: str
    entity_id: str
    before: dict[str, Any] | None = Field(description="Null for a new row.")
    after: dict[str, Any]
    reason: str


class ForetoldStep(Answer):
    """A step that would become due."""

    account_key: str
    kind: str
    key: str


class ReplayAnswer(Answer):
    """What became of the message, or with `dry_run` what would."""

    model_config = example(id=4, dry_run=False, outcome="applied", error=None)

    id: int
    dry_run: bool
    outcome: ReplayOutcome = Field(
        description="`failed`: it stays as it was, with the new error; `settled`: nothing is left to do."
    )
    error: str | None
    changes: list[ForetoldChange] = Field(default_factory=list, description="Only of a dry run.")
    steps: list[ForetoldStep] = Field(default_factory=list, description="Only of a dry run.")
    sweep: str | None = Field(default=None, description="Only of a dry run: what a tick would begin.")


class DiscardAnswer(Answer):
    """The message is given up."""

    model_config = example(id=4, state="discarded")

    id: int
    state: Literal["discarded"]


class FailedRenewalAnswer(Answer):
    """A renewal that failed. `superseded`: its row has a later boundary."""

    id: int
    account_key: str
    boundary: AwareDatetime = Field(description="When it was to be renewed, in business time.")
    state: FailureState
    category: str
    attempts: int
    first_failed_at: AwareDatetime
    last_failed_at: AwareDatetime
    error: str
    settled_at: AwareDatetime | None = Field(description="When it was resolved or waived.")


class FailedRenewalsAnswer(Answer):
    """A page of renewals that failed, newest first."""

    failures: list[FailedRenewalAnswer]
    next_cursor: int | None = Field(description="The `cursor` of the next page; null after the last.")


class FailedRenewalInFullAnswer(FailedRenewalAnswer):
    """A renewal that failed, and what was done about it."""

    actions: list[ActionAnswer]


class RetryAnswer(Answer):
    """What became of the renewal."""

    model_config = example(id=3, outcome="renewed", error=None)

    id: int
    outcome: RetryOutcome
    error: str | None


class SettledFailureAnswer(Answer):
    """The record as it stands."""

    model_config = example(id=3, state="resolved", changed=True)

    id: int
    state: FailureState
    changed: bool = Field(description="False where it was settled before.")
