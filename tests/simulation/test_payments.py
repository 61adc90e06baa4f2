from bursar.billing.stripe.objects import API_VERSION
from bursar.service.simulation.payments import automatic_top_ups, invoices_in_credits, payments_of_ours
from bursar.service.simulation.simulation import BEGINS_AT
from bursar.service.simulation.stripe import SimulatedStripe
from bursar.service.stripe_stand_in import customers, invoices, payments, renewals
from bursar.service.stripe_stand_in.answering import Call
from bursar.service.stripe_stand_in.faults import Fault
from bursar.service.stripe_stand_in.world import Card, World

TOP_UP = {"type": "credit_topup", "userId": "user-0"}
HEADERS = {"authorization": "Bearer sk_test_1", "stripe-version": API_VERSION}


def a_world() -> tuple[World, str, str]:
    world = World(int(BEGINS_AT.timestamp()))
    SimulatedStripe(world)
    customer_id = customers.create(world, {"email": "ada@example.test"})["id"]
    return world, customer_id, customers.give_card(world, customer_id, Card.GOOD)


def paid(world: World, customer_id: str, method: str, metadata: dict[str, str]) -> str:
    intent = payments.intended(world, customer_id, 2_000, method, metadata)
    payments.attempt(world, intent, on_session=True)
    charge: str = intent["latest_charge"]
    return charge


def test_a_top_up_is_ours_and_any_other_payment_is_not() -> None:
    world, customer_id, method = a_world()
    charge_id = paid(world, customer_id, method, TOP_UP)
    paid(world, customer_id, method, {})
    payments.refund(world, charge_id, 500)

    (found,) = payments_of_ours(world)
    assert (found.user_id, found.paid_cents, found.gone_cents, found.is_hosting) == ("user-0", 2_000, 500, False)


def test_a_top_up_by_an_invoice_is_one_payment_by_all_its_names() -> None:
    world, customer_id, _ = a_world()
    invoice = invoices.create(world, {"customer": customer_id, "metadata": TOP_UP})
    invoices.create_item(world, {"customer": customer_id, "invoice": invoice["id"], "amount": 5_000})
    invoices.pay(world, {}, invoice["id"])

    (found,) = payments_of_ours(world)
    assert {invoice["id"], found.charge["id"], found.charge["payment_intent"]} == found.names


def test_an_invoice_of_a_subscription_is_ours_where_it_is_kept_in_credits() -> None:
    world, customer_id, _ = a_world()
    for funding in ("credits", "direct"):
        metadata = {"type": "kiloclaw", "userId": f"of-{funding}", "funding": funding}
        renewals.start(world, customer_id, ["price_standard"], metadata=metadata)

    (found,) = payments_of_ours(world)
    assert (found.user_id, found.is_hosting) == ("of-credits", True)
    assert [one["metadata"]["userId"] for _, one in invoices_in_credits(world)] == ["of-credits"]


def test_a_decline_waits_for_a_call_that_pays() -> None:
    world, customer_id, method = a_world()
    stripe = SimulatedStripe(world)
    stripe.next_fault = Fault.DECLINED
    stripe.answer(Call("GET", f"/v1/customers/{customer_id}", {}, HEADERS))
    assert stripe.next_fault is Fault.DECLINED
    params = {"amount": "2000", "currency": "usd", "customer": customer_id, "payment_method": method}
    params |= {"confirm": "true", "off_session": "true"}
    answer = stripe.answer(Call("POST", "/v1/payment_intents", {**params, "metadata": TOP_UP}, HEADERS))

    assert answer
    assert answer[1] == 402
    assert [one["amount"] for one in automatic_top_ups(world)] == [2_000]
    assert payments_of_ours(world) == []


def test_what_waits_for_a_payment_leaves_every_other_call_alone() -> None:
    world, customer_id, method = a_world()
    stripe = SimulatedStripe(world, next_payment_fault=Fault.TIMEOUT_AFTER)
    assert stripe.answer(Call("POST", f"/v1/customers/{customer_id}", {"name": "Ada"}, HEADERS))
    params = {"amount": "2000", "currency": "usd", "customer": customer_id, "payment_method": method}
    params |= {"confirm": "true", "off_session": "true"}

    assert stripe.answer(Call("POST", "/v1/payment_intents", {**params, "metadata": TOP_UP}, HEADERS)) is None
    assert [one.paid_cents for one in payments_of_ours(world)] == [2_000]
