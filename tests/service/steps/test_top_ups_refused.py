"""Top-ups that Stripe refuses for our reasons: an operator's, who asks again; the customer's switch stays (CR-39)."""

from pathlib import Path

import pytest

from bursar.billing.errors import BursarError, CallRefused, Permanent
from tests.billing.credits.crediting import DUE
from tests.billing.kiloclaw.making import HOUR
from tests.service.crediting import balance
from tests.service.steps.test_auto_top_ups import MAIL, enabled
from tests.service.steps.test_refused_keys import PAYING, rotating, work
from tests.service.ticks.test_credit_renewals import row, tick

RUNBOOK = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
ASK_AGAIN = (
    "UPDATE steps SET state = 'due', asked = asked + 1, attempts = 0, due_at = now(), settled_at = NULL, result = NULL"
    " WHERE kind = 'top_up' AND state = 'failed'"
)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (CallRefused("parameter_missing", "no"), "stripe_refused: Stripe refused a call (parameter_missing)."),
        (CallRefused("account_invalid", "no"), "stripe_refused: Stripe refused a call (account_invalid)."),
        (Permanent("a list is too long"), "Permanent: a list is too long"),
    ],
)
async def test_cr_39_what_is_ours_to_mend_fails_the_step_and_leaves_the_switch_on(
    database_url: str, error: BursarError, told: str
) -> None:
    """CR-39 says past due, since the marker is set and the money is short; the days of grace are an operator's."""
    async with rotating(database_url, PAYING) as (ada, stripe):
        stripe.error = error
        await work(ada)
        await tick(ada.worker, ada.sweeps, DUE + HOUR)

        assert await ada.worker.fetch("SELECT state, error FROM steps WHERE kind = 'top_up'") == [("failed", told)]
        assert ada.worker.metrics.steps_failed.labels("top_up")._value.get() == 1
        assert (await enabled(ada.worker), ada.stripe.all("payment_intent")) == (True, [])
        assert await row(ada.worker, "status", "top_up_boundary") == ("past_due", DUE)
        assert [mail for mail, _ in await ada.worker.mails()] == [MAIL]


async def test_cr_39_the_runbooks_statement_asks_again_and_the_row_recovers(database_url: str) -> None:
    assert ASK_AGAIN in RUNBOOK
    async with rotating(database_url, PAYING) as (ada, stripe):
        stripe.error = CallRefused("parameter_missing", "no")
        await work(ada)
        stripe.refused = frozenset()
        await ada.worker.fetch(ASK_AGAIN.replace("now()", "$1::timestamptz"), ada.worker.clock.real_now)
        await ada.settle()

        assert (ada.paid_cents(), await balance(ada.worker)) == ([2_000], 5)
        assert await row(ada.worker, "status", "past_due_since", "current_period_start") == ("active", None, DUE)
        assert await ada.worker.fetch("SELECT state FROM steps WHERE kind = 'top_up'") == [("done",)]
