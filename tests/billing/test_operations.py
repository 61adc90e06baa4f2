"""Plans replayed over journals: forward, back, in rounds."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import BaseModel

from bursar.billing.account import Account
from bursar.billing.errors import CallRefused, Permanent, Refused
from bursar.billing.operations import (
    ABANDONED,
    MAX_ROUNDS,
    Ended,
    Failure,
    Journal,
    Operations,
    Plan,
    advance,
    begin,
)
from bursar.billing.steps import StepKind
from bursar.billing.stripe.calls import Call, Method

AT = datetime(2026, 6, 1, tzinfo=UTC)
VOID = Call("", Method.VOID_INVOICE)
LOOK = Call("look", Method.LIST_INVOICES)
INVOICE = Call("invoice", Method.CREATE_INVOICE, params=MappingProxyType({"customer": "cus_1"}), undo=VOID)
ITEM = Call("item", Method.CREATE_INVOICE_ITEM, undo=Call("", Method.DELETE_INVOICE, target="ii_own"))
PAY = Call("pay", Method.PAY_INVOICE)


def a_plan() -> Plan:
    yield LOOK
    invoice = yield INVOICE
    yield ITEM
    try:
        yield PAY
    except CallRefused as refusal:
        if refusal.code == "card_declined":
            raise Refused("payment_failed", "The card was declined.", status=402) from None
        raise
    return {"invoice": invoice.id}


@dataclass
class Stripe:
    """Answers with an object of the call's name; refuses those it is told to."""

    refusals: Mapping[str, str] = field(default_factory=dict)
    made: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, call: Call) -> dict[str, Any]:
        self.made.append((call.name, call.target))
        if call.name in self.refusals:
            raise CallRefused(self.refusals[call.name], "no")
        return {"data": []} if call is LOOK else {"id": f"{call.name}_1"}


def carried(stripe: Stripe, journal: Journal, **how: Any) -> tuple[Ended, Journal]:
    for _ in range(50):
        following = advance(a_plan, journal, **how)
        if isinstance(following, Ended):
            return following, journal
        if isinstance(following, Failure):
            journal = journal.failing(following)
        else:
            journal = made(stripe, journal.begun(following, AT), following)
    raise AssertionError("it does not end")


def made(stripe: Stripe, journal: Journal, call: Call) -> Journal:
    try:
        return journal.answered(call, stripe.answer(call))
    except CallRefused as refusal:
        return journal.refused(call, refusal)


def after(*calls: Call) -> Journal:
    journal = Journal()
    for call in calls:
        journal = journal.answered(call, Stripe().answer(call))
    return journal


def test_a_plan_ends_with_its_result_and_the_views_of_its_calls() -> None:
    ended, _ = carried(stripe := Stripe(), Journal())
    assert ended.result == {"invoice": "invoice_1"}
    assert [name for name, _ in stripe.made] == ["look", "invoice", "item", "pay"]
    assert ended.answers["invoice"].id == "invoice_1"
    assert (ended.failure, ended.not_undone) == (None, ())


def test_a_refusal_that_the_plan_turns_into_its_own_is_undone_in_reverse_order() -> None:
    ended, _ = carried(stripe := Stripe({"pay": "card_declined"}), Journal())
    assert ended.failure == Failure("payment_failed", "The card was declined.", 402)
    assert stripe.made[-2:] == [("undo:1:item", "ii_own"), ("undo:0:invoice", "invoice_1")]
    assert ended.answers["item"].id == "item_1"
    assert ended.not_undone == ()


def test_a_refusal_that_the_plan_did_not_expect_is_stripes_and_ours_to_explain() -> None:
    ended, _ = carried(Stripe({"pay": "resource_missing"}), Journal())
    assert ended.failure
    assert (ended.failure.code, ended.failure.status) == ("stripe_refused", 502)


def test_an_undo_that_stripe_refuses_stops_no_other() -> None:
    ended, _ = carried(stripe := Stripe({"pay": "card_declined", "undo:1:item": "no"}), Journal())
    assert stripe.made[-1][0] == "undo:0:invoice"
    assert ended.not_undone == ("undo:1:item",)


def test_ms_11_a_new_round_looks_again_and_still_takes_the_earlier_effects_back() -> None:
    journal = after(LOOK, INVOICE, ITEM).next_round()
    assert (journal.round, advance(a_plan, journal)) == (1, LOOK)

    ended, _ = carried(stripe := Stripe({"invoice": "no"}), journal)
    assert [name for name, _ in stripe.made] == ["look", "invoice", "undo:1:item", "undo:0:invoice"]
    assert ended.not_undone == ()


def test_ms_11_a_spent_call_that_may_have_had_its_effect_is_named_when_all_is_taken_back() -> None:
    journal = after(LOOK).begun(INVOICE, AT).next_round()
    assert carried(Stripe({"invoice": "no"}), journal)[0].not_undone == ("invoice",)
    assert carried(Stripe(), journal)[0].not_undone == ()  # the new round found it, or made it


FADES = Call("invoice", Method.CREATE_CHECKOUT_SESSION, undo=VOID, fades=True)


def a_page() -> Plan:
    page = yield FADES
    yield PAY
    return {"page": page.id}


def test_ms_11_what_ends_by_itself_is_nobodys_to_take_back_where_its_undo_is_refused_or_its_outcome_unknown() -> None:
    opened = Journal().answered(FADES, {"id": "cs_1", "url": None, "status": "open", "metadata": {}})
    undo = advance(a_page, opened.failing(ABANDONED))
    assert isinstance(undo, Call)
    refused = opened.failing(ABANDONED).refused(undo, CallRefused("resource_missing", "expired"))
    unknown = Journal().begun(FADES, AT).next_round().failing(ABANDONED)
    for journal in (refused, Journal.from_json(unknown.to_json())):
        ended = advance(a_page, journal)
        assert isinstance(ended, Ended)
        assert ended.not_undone == ()


def test_ms_11_what_was_taken_back_in_an_earlier_round_is_not_taken_back_twice() -> None:
    journal = after(LOOK, INVOICE, ITEM).failing(ABANDONED)
    undo = advance(a_plan, journal)
    assert isinstance(undo, Call)
    journal = journal.answered(undo, {"id": "ii_own"}).next_round()
    _, ended = carried(stripe := Stripe(), journal)
    assert [name for name, _ in stripe.made] == ["undo:0:invoice"]
    assert ended.round == 1


def test_the_rounds_are_bounded() -> None:
    journal = Journal()
    for _ in range(MAX_ROUNDS - 1):
        journal = journal.next_round()
    with pytest.raises(Permanent, match="rounds"):
        journal.next_round()


def test_giving_up_makes_no_new_call_but_learns_how_the_last_one_went() -> None:
    ended, _ = carried(stripe := Stripe(), after(LOOK).begun(INVOICE, AT), give_up=True)
    assert [name for name, _ in stripe.made] == ["invoice", "undo:0:invoice"]
    assert ended.failure == ABANDONED

    ended, _ = carried(stripe := Stripe(), after(LOOK), give_up=True)
    assert (stripe.made, ended.failure) == ([], ABANDONED)


def test_a_call_that_is_in_flight_keeps_the_instant_it_was_begun_at() -> None:
    journal = after(LOOK).begun(INVOICE, AT)
    again = journal.begun(INVOICE, AT.replace(year=2027))
    assert again.in_flight
    assert again.in_flight.begun_at == AT


@pytest.mark.parametrize("journal", [after(INVOICE), after(LOOK, INVOICE, ITEM, PAY, Call("more", Method.PAY_INVOICE))])
def test_a_journal_of_another_version_is_not_carried_on_but_can_be_taken_back(journal: Journal) -> None:
    with pytest.raises(Permanent, match="the journal"):
        advance(a_plan, journal)
    ended, _ = carried(stripe := Stripe(), journal.failing(ABANDONED))
    assert stripe.made[-1] == ("undo:0:invoice", "invoice_1")
    assert ended.failure == ABANDONED


def test_a_journal_survives_its_way_through_postgres() -> None:
    journal = after(LOOK, INVOICE).refused(ITEM, CallRefused("no", "why")).next_round().begun(INVOICE, AT)
    for one in (journal, journal.failing(ABANDONED)):
        assert Journal.from_json(json.loads(json.dumps(one.to_json()))) == one
    with pytest.raises(Permanent, match="cannot be read"):
        Journal.from_json({"entries": 1})


class Asked(BaseModel):
    plan: str


def test_one_operation_at_a_time() -> None:
    account = Account("user:ada", {Operations: Operations()})
    begun = begin(account, "switch", Asked(plan="commit"), "command:1")
    [step] = begun.steps
    assert (step.kind, step.key) == (StepKind.OPERATION, "operation:command:1")
    assert step.payload == {"operation": "switch", "asked": {"plan": "commit"}}
    kept = account.having(Operations(keeps_schedule=True))
    for busy in (begun.account, kept):
        with pytest.raises(Refused, match="under way") as refused:
            begin(busy, "switch", Asked(plan="commit"), "command:2")
        assert (refused.value.code, refused.value.status) == ("operation_in_progress", 409)
