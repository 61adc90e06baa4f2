from structlog.testing import capture_logs

from bursar.billing.kiloclaw.stripe_events import subscription_event
from bursar.db.items import Outcome, OutcomeState
from bursar.service.observability.counting import count_outcomes
from bursar.service.observability.metrics import Metrics
from tests.billing.kiloclaw.making import CATALOGUE, DAY, NOW, STANDARD, a_paid_row, an_account, an_event
from tests.db.deciding import an_item


def logged(price: str) -> list[tuple[str, str]]:
    """What is logged once Stripe's word on a subscription of that price was decided."""
    decision = subscription_event(
        an_account(a_paid_row()), an_event(at=NOW + DAY, price=price, end=NOW + 60 * DAY), CATALOGUE
    )
    outcome = Outcome(an_item("evt_1"), OutcomeState.APPLIED, decision)
    with capture_logs() as lines:
        count_outcomes(Metrics())([outcome])
    return [(line["event"], line["cause"]) for line in lines]


def test_kc_34_a_plan_that_was_taken_from_the_metadata_is_logged() -> None:
    assert logged("price_new") == [("plan taken from the metadata", "evt_1")]
    assert logged(STANDARD) == []
