"""Failed renewals in operators' hands: tried again, resolved, waived, each signed (CR-63)."""

from collections.abc import Sequence
from enum import StrEnum
from types import MappingProxyType

from bursar.billing.catalogue import Catalogue
from bursar.billing.errors import describe
from bursar.billing.values import Value
from bursar.db import renewal_failure_actions as actions
from bursar.db import renewal_failures
from bursar.db.connections import Connection
from bursar.db.items import Outcome, OutcomeState
from bursar.db.parked_actions import Signature
from bursar.db.renewal_failure_actions import Settled
from bursar.db.renewal_failures import FailedRenewal, RenewalFailure, category_of, failure_of
from bursar.db.ticks import Tick
from bursar.service.deciding.decider import CONTENTION, AccountBusy, DatabaseUnavailable, Decider
from bursar.sweeps.table import CREDIT_RENEWAL, candidate

OPEN_STATES = frozenset({"retrying", "unresolved"})


class RetryOutcome(StrEnum):
    """How a retry ends."""

    RENEWED = "renewed"
    TOPPING_UP = "topping_up"  # the card on file is being charged; it stays as it was until that money has come
    UNPAID = "unpaid"  # decided on: the money did not suffice, which is no failure
    CANCELED = "canceled"  # decided on: at its end, as it was asked for
    FAILED = "failed"  # it stays as it was, with the new error
    SETTLED = "settled"  # nothing is left to do: settled already, or the row has another boundary


# By what a decision counts; the first that is there says how it went.
OUTCOME_OF_COUNT = MappingProxyType(
    {"renewed": RetryOutcome.RENEWED, "unpaid": RetryOutcome.UNPAID, "top_up_asked": RetryOutcome.TOPPING_UP}
)


class Retried(Value):
    """What became of a renewal."""

    outcome: RetryOutcome
    error: str | None = None

    @property
    def is_an_end(self) -> bool:
        """Whether nothing of the failure is left to be looked after."""
        return self.outcome not in (RetryOutcome.FAILED, RetryOutcome.TOPPING_UP)


class FailedRenewals:
    """What operators do. Raises DatabaseUnavailable and AccountBusy: nothing was done."""

    def __init__(self, decider: Decider, catalogue: Catalogue) -> None:
        self._decider = decider
        self._catalogue = catalogue

    async def settle(self, failure_id: int, state: Settled, signature: Signature) -> bool:
        """Resolve, or waive: the protection ends, and no renewal is pretended. False where it was settled before."""

        async def settle(connection: Connection) -> bool:
            real_now = (await self._decider.clock.situation(connection)).real_now
            return await actions.settle(connection, failure_id, state, signature, real_now)

        return await self._decider.with_connection(settle)

    async def retry(self, failure_id: int, signature: Signature) -> Retried:
        """Decide the renewal of that boundary again; the signature is written in the transaction of the effect."""
        failure = await self._decider.with_connection(lambda connection: failure_of(connection, failure_id))
        if failure is None or failure.state not in OPEN_STATES:
            return Retried(RetryOutcome.SETTLED)
        tick = Tick(0, CREDIT_RENEWAL, failure.boundary)
        item = candidate(failure.account_key, CREDIT_RENEWAL, tick, self._catalogue, failure.boundary)

        async def sign(connection: Connection, outcomes: Sequence[Outcome]) -> None:
            await self._sign(connection, failure, signature, outcomes[0])

        try:
            [outcome] = await self._decider.decide_together([item], sign)
        except DatabaseUnavailable:
            raise
        except CONTENTION:
            raise AccountBusy("the account is busy") from None
        except Exception as error:  # noqa: BLE001 - written down with the record
            outcome = Outcome(item, OutcomeState.FAILED, error=error)
            await self._decider.with_connection(lambda connection: sign(connection, [outcome]))
        return _retried(outcome)

    async def _sign(
        self, connection: Connection, failure: RenewalFailure, signature: Signature, outcome: Outcome
    ) -> None:
        real_now = (await self._decider.clock.situation(connection)).real_now
        retried = _retried(outcome)
        async with connection.transaction():
            await actions.record_retry(
                connection, failure.id, signature, retried.error, real_now, resolves=retried.is_an_end
            )
            if outcome.error:
                category = category_of(outcome.error)
                attempt = FailedRenewal(
                    failure.account_key, failure.boundary, failure.attempts + 1, real_now, category, retried.error or ""
                )
                await renewal_failures.record(connection, [attempt])


def _retried(outcome: Outcome) -> Retried:
    if outcome.error:
        return Retried(RetryOutcome.FAILED, describe(outcome.error))
    counts = outcome.decision.counts if outcome.decision else {}
    for count, said in OUTCOME_OF_COUNT.items():
        if count in counts:
            return Retried(said)
    return Retried(RetryOutcome.CANCELED if "changed" in counts else RetryOutcome.SETTLED)
