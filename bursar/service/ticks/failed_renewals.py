"""What becomes of renewals that fail in a sweep: counted, and kept for operators from the third time on (CR-60)."""

from collections.abc import Sequence
from datetime import datetime

from bursar.billing.errors import Retryable, describe
from bursar.db import renewal_failures
from bursar.db.connections import Connection
from bursar.db.items import Outcome, OutcomeState
from bursar.db.renewal_failures import FailedRenewal, category_of


async def note_failed_renewals(
    connection: Connection, outcomes: Sequence[Outcome], boundaries: Sequence[datetime], failed_at: datetime
) -> None:
    """Write down which renewals of a page failed, each with its boundary. The next hour finds their rows again.

    A busy account or database is no failure of the renewal.
    """
    failed = {
        (outcome.item.key, boundary): outcome.error
        for outcome, boundary in zip(outcomes, boundaries, strict=True)
        if outcome.state is OutcomeState.FAILED and outcome.error and not isinstance(outcome.error, Retryable)
    }
    if not failed:
        return
    known = await renewal_failures.attempts_so_far(connection, list(failed))
    await renewal_failures.record(
        connection,
        [
            FailedRenewal(
                key, boundary, known.get((key, boundary), 0) + 1, failed_at, category_of(error), describe(error)
            )
            for (key, boundary), error in failed.items()
        ],
    )
