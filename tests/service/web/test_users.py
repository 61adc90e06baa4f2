"""Profiles, Stripe customers whose events came first (KC-31), and the history (KC-4)."""

import asyncpg
import pytest

from bursar.billing.account import Account
from bursar.billing.decision import Decision
from bursar.billing.kiloclaw.rows import EarlyEvent, Hosting, hosting_of
from bursar.db.items import Item, Situation
from tests.billing.kiloclaw.making import NOW
from tests.service.web.serving import Served


async def test_a_profile_keeps_what_is_not_told_again(web: Served) -> None:
    await web.put("/v1/users/ada", {"email": "ada@example.test", "name": "Ada", "auto_top_up": True})
    answer = await web.put("/v1/users/ada", {"name": None})

    assert answer.status_code == 200
    assert answer.json() == {
        "user_id": "ada",
        "email": "ada@example.test",
        "name": None,
        "stripe_customer_id": None,
        "auto_top_up": True,
    }


async def test_a_stripe_customer_belongs_to_one_user(web: Served) -> None:
    assert (await web.put("/v1/users/ada", {"stripe_customer_id": "cus_1"})).status_code == 200
    assert (await web.put("/v1/users/ada", {"stripe_customer_id": "cus_1"})).status_code == 200
    taken = await web.put("/v1/users/grace", {"stripe_customer_id": "cus_1", "name": "Grace"})

    assert (taken.status_code, taken.json()["code"]) == (409, "stripe_customer_taken")
    assert (await web.put("/v1/users/grace", {})).json()["name"] is None, "nothing of the refused change was saved"


async def test_kc_31_what_was_remembered_for_a_customer_becomes_the_users(
    web: Served, connection: asyncpg.Connection
) -> None:
    await remember(web, "cus_1", "evt_1", "evt_2")
    await remember(web, "cus_other", "evt_3")
    await web.put("/v1/users/ada", {"stripe_customer_id": "cus_1"})

    owners = await connection.fetch("SELECT event_id, account_key FROM early_events ORDER BY event_id")
    assert [row["account_key"] for row in owners] == ["user:ada", "user:ada", "customer:cus_other"]
    steps = await connection.fetch("SELECT key, account_key, state FROM steps")
    assert [tuple(step) for step in steps] == [("read:user:ada", "user:ada", "due")]


async def test_kc_31_a_refused_registration_moves_nothing(web: Served, connection: asyncpg.Connection) -> None:
    await remember(web, "cus_1", "evt_1")
    await web.put("/v1/users/grace", {"stripe_customer_id": "cus_1"})
    assert (await web.put("/v1/users/ada", {"stripe_customer_id": "cus_1"})).status_code == 409
    assert await connection.fetchval("SELECT account_key FROM early_events") == "user:grace"


async def test_a_customer_without_events_asks_stripe_nothing(web: Served, connection: asyncpg.Connection) -> None:
    await web.put("/v1/users/ada", {"stripe_customer_id": "cus_1"})
    assert await connection.fetchval("SELECT count(*) FROM steps") == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "no address"}, "body.email"),
        ({"email": "ada@example.test\r\nBcc: eve@example.test"}, "body.email"),
        ({"name": "A\x00da"}, "body.name"),
        ({"stripe_customer_id": "sub_1"}, "body.stripe_customer_id"),
        ({"stripe_customer_id": None}, "body.stripe_customer_id"),
        ({"auto_top_up": None}, "body.auto_top_up"),
        ({"surname": "Lovelace"}, "body.surname"),
    ],
)
async def test_ms_14_a_wrong_field_is_named_without_its_value(web: Served, body: dict[str, object], field: str) -> None:
    answer = await web.put("/v1/users/ada", body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert [one["field"] for one in answer.json()["errors"]] == [field]
    assert not any(str(value) in answer.text for value in body.values() if value)


async def test_kc_4_the_history_tells_every_change_newest_first(web: Served) -> None:
    await web.post("/v1/users/ada/kiloclaw/trial")
    await web.post("/v1/users/ada/kiloclaw/provision", {"instance_id": "inst-1"})
    await web.post("/v1/users/grace/kiloclaw/trial")

    first = (await web.get("/v1/users/ada/history?limit=2")).json()
    rest = (await web.get(f"/v1/users/ada/history?limit=2&cursor={first['next_cursor']}")).json()
    entries = first["entries"] + rest["entries"]
    assert [entry["reason"] for entry in entries] == ["instance provisioned", "instance provisioned", "trial started"]
    assert entries[-1]["before"] is None
    assert entries[-1]["after"]["status"] == "trialing"
    assert entries[-1]["cause"].startswith("command:")
    assert rest["next_cursor"] is None


async def remember(web: Served, customer_id: str, *event_ids: str) -> None:
    """Have events remembered for a customer nobody is known for."""

    def decide(account: Account, _: Situation) -> Decision:
        early = tuple(EarlyEvent(one, f"sub_{customer_id}", customer_id, "invoice.paid", NOW) for one in event_ids)
        return Decision(account.having(Hosting(early_events=hosting_of(account).early_events + early)))

    item = Item(f"remember:{customer_id}", f"customer:{customer_id}", frozenset({Hosting}), decide)
    await web.decider.decide([item])
