"""Instance API and mail provider as the simulation plays them: they remember what truly happened."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from bursar.billing.kiloclaw.rows import DesiredState
from bursar.service.gateways.instances import CallOutcome, CallResult
from bursar.service.gateways.mail import OutgoingMail, SendOutcome, SendResult
from bursar.service.simulation.clock import SimulatedClock
from bursar.service.simulation.dying import Mortality, Point


class Answer(StrEnum):
    """How the other side may answer the next call, besides rightly."""

    REFUSES = "refuses"  # certainly not done, try again
    SILENT = "silent"  # done, but nobody says so
    LIES = "lies"  # not done, though it says so


@dataclass(slots=True)
class SimulatedInstances:
    """What runs. It outlives every process."""

    clock: SimulatedClock
    states: dict[str, DesiredState] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    history: list[tuple[str, DesiredState, int, datetime]] = field(default_factory=list)
    lied_about: set[str] = field(default_factory=set)
    next_answer: Answer | None = None

    def provision(self, instance_id: str) -> None:
        """The product made it."""
        self.states.setdefault(instance_id, "running")

    def destroyed_by_user(self, instance_id: str) -> None:
        """The product destroyed it, because its user wanted that."""
        self.states[instance_id] = "destroyed"

    def bring_about(self, instance_id: str, desired: DesiredState, generation: int) -> CallResult:
        """One call, as the other side sees it: an older generation is refused (KC-91)."""
        answer, self.next_answer = self.next_answer, None
        if answer is Answer.REFUSES:
            return CallResult(CallOutcome.RETRY, "http_503")
        if generation < self.generations.get(instance_id, 0):
            return CallResult(CallOutcome.SUPERSEDED)
        self.generations[instance_id] = generation
        if answer is Answer.LIES:
            self.lied_about.add(instance_id)
            return CallResult(CallOutcome.DONE)
        self.lied_about.discard(instance_id)
        if self.states.get(instance_id) != "destroyed":
            self.states[instance_id] = desired
        self.history.append((instance_id, desired, generation, self.clock.now))
        return CallResult(CallOutcome.RETRY, "time-out") if answer is Answer.SILENT else CallResult(CallOutcome.DONE)


@dataclass(slots=True)
class SimulatedMails:
    """What was handed over, by step key."""

    clock: SimulatedClock
    sent: list[OutgoingMail] = field(default_factory=list)
    lied_about: set[str] = field(default_factory=set)  # keys of mails that were taken and lost
    next_answer: Answer | None = None

    def send(self, mail: OutgoingMail) -> SendResult:
        """One hand-over."""
        answer, self.next_answer = self.next_answer, None
        if answer is Answer.REFUSES:
            return SendResult(SendOutcome.RETRY, "smtp_451")
        if answer is Answer.LIES:
            self.lied_about.add(mail.key)
        else:
            self.sent.append(mail)
        return SendResult(SendOutcome.UNKNOWN, "time-out") if answer is Answer.SILENT else SendResult(SendOutcome.SENT)


@dataclass(slots=True)
class CallsOfAProcess:
    """A process's way to both: it may die on either side of a call."""

    instances: SimulatedInstances
    mails: SimulatedMails
    mortality: Mortality

    async def bring_about(
        self,
        instance_id: str,
        desired: DesiredState,
        generation: int,
        idempotency_key: str,  # noqa: ARG002 - the generation is the key of this side
    ) -> CallResult:
        """As the instance API's gateway."""
        self.mortality.pass_point(Point.BEFORE_CALL)
        result = self.instances.bring_about(instance_id, desired, generation)
        self.mortality.pass_point(Point.AFTER_CALL)
        return result

    async def send(self, message: OutgoingMail) -> SendResult:
        """As a mail gateway."""
        self.mortality.pass_point(Point.BEFORE_CALL)
        result = self.mails.send(message)
        self.mortality.pass_point(Point.AFTER_CALL)
        return result
