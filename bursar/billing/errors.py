"""Every way an operation of ours may fail, in one place.

Gateways translate their vendor's exceptions into these; anything else that is raised is a bug, which is parked and
alerted.
"""

from collections.abc import Mapping

KEY_REFUSED_RETRY_SECONDS = 300.0


class BursarError(Exception):
    """Base of all errors that the service raises on purpose."""


class Retryable(BursarError):
    """It may work later: a time-out, a busy server, a lock. `retry_after_seconds` is the other side's wish, if it
    said one.
    """

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class OwnServerAway(Retryable):
    """A server of our own does not answer, which says nothing about what was to be done: it uses up no attempt."""


class KeyRefused(OwnServerAway):
    """Stripe refuses our key: nothing happened, and nothing is said about the customer. An operator's to mend; each
    step asks again so seldom meanwhile, however long that takes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_seconds=KEY_REFUSED_RETRY_SECONDS)


class KeySpent(Retryable):
    """The other side failed for good under this idempotency key and would answer the same again (MS-11): look at what
    happened, then try under a new one.
    """


class Permanent(BursarError):
    """Trying again cannot help: the message or step is parked for an operator."""


class CallRefused(Permanent):
    """Stripe said no to one call, and nothing happened. `code` is Stripe's (`card_declined`, `resource_missing`)."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Stale(BursarError):
    """What was asked for is no longer wanted: dropped with a log line."""


class AskAgain(BursarError):
    """An answer came too late: what it was asked about has moved since, so the step asks again (KC-32)."""


class Refused(BursarError):
    """A command that the rules forbid. `code` is stable and part of the API; `status` is its HTTP status, `members` are
    further facts of the answer.
    """

    def __init__(
        self, code: str, message: str, *, status: int = 400, members: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status
        self.members = members or {}


class UnreadableMessage(Permanent):
    """A message whose form or content cannot be read (MS-6)."""


class UnknownStripeStatus(Permanent):
    """Stripe sent a subscription status that no rule knows (KC-33): never guessed."""


class UndeclaredTransition(Permanent):
    """A row would come into a state, or by a way, that `billing/kiloclaw/transitions.py` does not declare."""


def describe(error: BaseException) -> str:
    """What may be written down of an error (MS-14): our own sentence, else only its kind and where it was raised."""
    if isinstance(error, BursarError):
        return f"{type(error).__name__}: {error}"
    frame = error.__traceback__
    while frame and frame.tb_next:
        frame = frame.tb_next
    where = f" at {frame.tb_frame.f_code.co_qualname}:{frame.tb_lineno}" if frame else ""
    return f"{type(error).__name__}{where}"
