from uuid import UUID

from bursar.billing.account import Account, Profile
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.reads import SubscriptionsRead, read_targets
from bursar.billing.kiloclaw.rows import hosting_of
from bursar.billing.steps import StepKind
from bursar.db.items import Situation
from bursar.db.steps import ClaimedStep
from bursar.handlers.steps import read_outcome
from tests.billing.kiloclaw.making import (
    CATALOGUE,
    DAY,
    NOW,
    SECOND,
    a_paid_row,
    a_stripe_subscription,
    an_instance,
    with_instance_row,
)

READ = ClaimedStep(1, "read:user:ada", "user:ada", StepKind.READ_SUBSCRIPTIONS, {}, 1, 1, UUID(int=1))
ENDED = a_stripe_subscription(status="canceled", ended_at=int((NOW - 8 * DAY).timestamp()))
DOOMED = with_instance_row(
    a_paid_row(status="canceled", suspended_at=NOW - 7 * DAY, destruction_deadline=NOW - SECOND),
    an_instance(desired_state="stopped", generation=2, done_generation=2),
)


def answered(account: Account, asked: Account) -> Decision:
    """The decision on Stripe's answer to what was asked about that account."""
    targets = read_targets(asked)
    read = SubscriptionsRead((ENDED,), targets.row_version, NOW, targets.customer_ids)
    return read_outcome(READ, read, CATALOGUE, NOW).decide(account, Situation(NOW, NOW))


def test_kc_74_a_destruction_that_is_due_is_decided_on_the_answer() -> None:
    decision = answered(DOOMED, asked=DOOMED)

    assert (hosting_of(decision.account).instances[0].destroying_since, decision.steps) == (NOW, ())


def test_kc_74_a_customer_who_became_known_meanwhile_is_asked_about_before_destruction() -> None:
    registered = DOOMED.having(Profile("ada", stripe_customer_id="cus_new"))

    decision = answered(registered, asked=DOOMED)

    assert hosting_of(decision.account).instances[0].destroying_since is None
    assert [step.kind for step in decision.steps] == [StepKind.READ_SUBSCRIPTIONS]
