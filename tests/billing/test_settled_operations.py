"""Once money was taken there is no way back (KC-47)."""

from datetime import UTC, datetime
from typing import Any

from bursar.billing.errors import Refused
from bursar.billing.operations import ABANDONED, Ended, Journal, Plan, advance
from bursar.billing.stripe.calls import Call, Method

AT = datetime(2026, 6, 1, 9, tzinfo=UTC)
OPEN = {"id": "in_1", "status": "open"}
FINALIZE = Call("finalize", Method.FINALIZE_INVOICE, "in_1", undo=Call("void", Method.VOID_INVOICE))
PAY = Call("pay", Method.PAY_INVOICE, "in_1", settles=True)
AFTER = Call("after", Method.UPDATE_SCHEDULE, "sub_sched_1")


def plan() -> Plan:
    yield FINALIZE
    yield PAY
    yield AFTER
    return {}


def refusing() -> Plan:
    yield FINALIZE
    yield PAY
    raise Refused("late", "too late")


def journal(*, paid: bool) -> Journal:
    begun = Journal().begun(FINALIZE, AT).answered(FINALIZE, OPEN)
    return begun.begun(PAY, AT).answered(PAY, {**OPEN, "status": "paid"}) if paid else begun


def test_kc_47_before_the_payment_an_old_operation_goes_back() -> None:
    assert advance(plan, journal(paid=False), give_up=True) == ABANDONED


def test_kc_47_after_the_payment_an_old_operation_goes_on_also_in_a_new_round() -> None:
    assert advance(plan, journal(paid=True), give_up=True) == AFTER
    assert advance(plan, journal(paid=True).next_round(), give_up=True) == FINALIZE


def test_kc_47_after_the_payment_nothing_before_it_is_undone() -> None:
    for paid, undone in ((False, Method.VOID_INVOICE), (True, None)):
        for known in (journal(paid=paid), journal(paid=paid).next_round()):
            following: Any = advance(refusing, known.failing(ABANDONED))
            assert (following.method if isinstance(following, Call) else None) == undone
            assert isinstance(following, Ended) is paid


def test_kc_47_the_mark_survives_a_restart() -> None:
    assert advance(plan, Journal.from_json(journal(paid=True).to_json()), give_up=True) == AFTER
