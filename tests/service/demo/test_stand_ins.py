"""The stand-ins as processes of their own, asked through the gateways that the service uses."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import pytest_asyncio

from bursar.billing.catalogue import Prices
from bursar.billing.errors import KeyRefused
from bursar.billing.kiloclaw.operations.schedule import keep_schedule
from bursar.billing.kiloclaw.phases import KeptSchedule, ScheduleTerms
from bursar.billing.kiloclaw.scheduling import KeepAsked
from bursar.billing.operations import Ended, Journal, advance
from bursar.billing.stripe.calls import Call, Method
from bursar.billing.stripe.objects import API_VERSION
from bursar.service.demo.generator import generated_lives
from bursar.service.demo.lives import Life, customers_of_users
from bursar.service.demo.stand_ins import StandIns, running_stand_ins
from bursar.service.gateways.instances import CallOutcome, InstancesGateway, instances_client
from bursar.service.gateways.mail import OutgoingMail, SendOutcome
from bursar.service.gateways.smtp import SmtpMail, SmtpSettings
from bursar.service.gateways.stripe import StripeGateway

INSTANCES_SECRET = "instances-secret"
STRIPE_KEY = "sk_test_demo"
BEARER = {"Authorization": f"Bearer {INSTANCES_SECRET}"}
STRIPE_HEADERS = {"Authorization": f"Bearer {STRIPE_KEY}", "Stripe-Version": API_VERSION}


# One set of processes for all tests of this file: each test uses instances and types of its own.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def lives() -> list[Life]:
    return generated_lives()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stand_ins(lives: list[Life], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[StandIns]:
    folder = tmp_path_factory.mktemp("demo")
    async with running_stand_ins(lives, folder, instances_secret=INSTANCES_SECRET, stripe_key=STRIPE_KEY) as listening:
        yield listening


async def _calls(url: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as client:
        found: dict[str, Any] = (await client.get(f"{url}/_calls")).json()
        return found


async def _provision(url: str, instance_id: str) -> None:
    async with httpx.AsyncClient(headers=BEARER) as client:
        assert (await client.post(f"{url}/instances/{instance_id}")).status_code == 201


async def test_kc_77_an_instance_follows_its_desired_state(stand_ins: StandIns) -> None:
    url = stand_ins.instances_url
    await _provision(url, "i-1")
    async with instances_client() as client:
        gateway = InstancesGateway(url, INSTANCES_SECRET, client=client)
        for desired, generation in (("stopped", 2), ("running", 3), ("destroyed", 4)):
            result = await gateway.bring_about("i-1", desired, generation, f"k{generation}")  # type: ignore[arg-type]
            assert result.outcome is CallOutcome.DONE
    seen = await _calls(url)
    assert seen["instances"]["i-1"] == {
        "state": "destroyed",
        "generation": 4,
        "done": ["stop", "start", "destroy"],
    }
    assert min(seen["operations"][operation] for operation in ("stop", "start", "destroy")) >= 1


async def test_kc_91_an_older_generation_is_refused(stand_ins: StandIns) -> None:
    url = stand_ins.instances_url
    await _provision(url, "i-2")
    async with instances_client() as client:
        gateway = InstancesGateway(url, INSTANCES_SECRET, client=client)
        await gateway.bring_about("i-2", "running", 3, "newer")
        result = await gateway.bring_about("i-2", "stopped", 2, "older")
    assert result.outcome is CallOutcome.SUPERSEDED
    seen = await _calls(url)
    assert seen["instances"]["i-2"] == {"state": "running", "generation": 3, "done": ["start"]}
    assert seen["answers"]["412"] == 1


async def test_the_same_call_twice_is_seen(stand_ins: StandIns) -> None:
    url = stand_ins.instances_url
    await _provision(url, "i-3")
    before = (await _calls(url))["repeated"]
    async with instances_client() as client:
        gateway = InstancesGateway(url, INSTANCES_SECRET, client=client)
        for _ in range(2):
            await gateway.bring_about("i-3", "stopped", 2, "same")
    assert (await _calls(url))["repeated"] == before + 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong", "X-Generation": "1", "Idempotency-Key": "k"}, 401),
        (BEARER, 400),
        ({**BEARER, "X-Generation": "1", "Idempotency-Key": "k"}, 404),
    ],
)
async def test_the_instance_api_refuses(stand_ins: StandIns, headers: dict[str, str], status: int) -> None:
    async with httpx.AsyncClient(headers=headers) as client:
        answer = await client.post(f"{stand_ins.instances_url}/instances/nobody/stop")
    assert answer.status_code == status


async def test_mails_are_counted_by_type_and_a_repeated_one_is_told(stand_ins: StandIns) -> None:
    settings = SmtpSettings(
        stand_ins.smtp_host, stand_ins.smtp_port, sender="Bursar <billing@example.com>", starttls=False
    )
    dated_at = datetime(2026, 6, 1, tzinfo=UTC)
    for key in ("step-1", "step-2", "step-2"):
        mail = OutgoingMail(key, "claw_trial_5d", "Soon", "<p>Soon</p>", "Soon", "user-a@example.com", dated_at)
        assert (await SmtpMail(settings).send(mail)).outcome is SendOutcome.SENT
    async with httpx.AsyncClient() as client:
        seen = (await client.get(f"{stand_ins.mails_url}/_mails")).json()
    assert seen["by_type"] == {"claw_trial_5d": 3}
    assert len(seen["repeated"]) == 1
    assert seen["mails"][0]["user"] == "user-a"
    assert "@example.com" not in json.dumps([mail["user"] for mail in seen["mails"]])


async def test_stripe_reads_show_how_each_subscription_ended(stand_ins: StandIns, lives: list[Life]) -> None:
    async with StripeGateway(STRIPE_KEY, api_base=stand_ins.stripe_url) as gateway:
        for final in (one for life in lives for one in life.final):
            read = await gateway.retrieve_subscription(final["id"])
            assert read is not None
            assert (read.status, read.metadata) == (final["status"], final["metadata"])
            assert read.items[0].current_period_end.timestamp() == final["items"][0]["current_period_end"]


async def test_stripe_reads_list_a_customers_ended_subscriptions_too(stand_ins: StandIns, lives: list[Life]) -> None:
    life = next(one for one in lives if one.name.startswith("resubscribes"))
    (customer_id,) = customers_of_users([life]).values()
    async with StripeGateway(STRIPE_KEY, api_base=stand_ins.stripe_url) as gateway:
        listed = await gateway.list_subscriptions(customer_id)
    assert [one.status for one in listed] == ["active", "canceled"]


async def test_stripe_reads_know_no_invoice_of_a_refunded_payment(stand_ins: StandIns) -> None:
    call = Call("invoice payments", Method.LIST_INVOICE_PAYMENTS, params={"payment": {"type": "payment_intent"}})
    async with StripeGateway(STRIPE_KEY, api_base=stand_ins.stripe_url) as gateway:
        assert (await gateway.call(call, "key-1"))["data"] == []


async def test_what_stripe_does_not_know_is_missing(stand_ins: StandIns) -> None:
    async with StripeGateway(STRIPE_KEY, api_base=stand_ins.stripe_url) as gateway:
        assert await gateway.retrieve_subscription("sub_nobody") is None
        assert await gateway.list_subscriptions("cus_nobody") == []
    async with StripeGateway("sk_test_wrong", api_base=stand_ins.stripe_url) as gateway:
        with pytest.raises(KeyRefused):
            await gateway.retrieve_subscription("sub_nobody")


async def test_kc_40_a_commit_subscription_without_a_schedule_gets_one_and_is_let_go(
    stand_ins: StandIns, lives: list[Life]
) -> None:
    life = next(one for one in lives if one.name.startswith("resubscribes"))
    subscription_id = life.final[-1]["id"]
    terms = ScheduleTerms(
        user_id="user-a", prices=Prices(standard=(life.prices["standard"],), commit=(life.prices["commit"],))
    )
    asked = KeepAsked(subscription_id=subscription_id, terms=terms)
    async with StripeGateway(STRIPE_KEY, api_base=stand_ins.stripe_url) as gateway:
        made = KeptSchedule.model_validate((await _carried_out(gateway, asked)).result)
        adopted = KeptSchedule.model_validate((await _carried_out(gateway, asked)).result)
        release = Call("release", Method.RELEASE_SCHEDULE, made.schedule_id)
        released = await gateway.call(release, "a-key")
        read = await gateway.retrieve_subscription(subscription_id)
    assert made == adopted
    assert (made.plan, made.scheduled_plan, made.scheduled_by) == ("commit", "standard", "auto")
    assert made.commit_ends_at
    assert made.commit_ends_at.timestamp() == life.final[-1]["items"][0]["current_period_end"]
    assert released["status"] == "released"
    assert read is not None
    assert read.schedule is None


async def _carried_out(gateway: StripeGateway, asked: KeepAsked) -> Ended:
    journal = Journal()
    for number in range(10):
        following = advance(lambda: keep_schedule(asked), journal)
        if isinstance(following, Ended):
            return following
        assert isinstance(following, Call)
        journal = journal.answered(following, await gateway.call(following, f"{asked.subscription_id}:{number}"))
    raise AssertionError("the plan does not end")


async def test_stripe_lists_come_in_pages_newest_first(stand_ins: StandIns, lives: list[Life]) -> None:
    seen: list[dict[str, Any]] = []
    async with httpx.AsyncClient(base_url=stand_ins.stripe_url, headers=STRIPE_HEADERS) as client:
        for _ in range(20):
            after = {"starting_after": seen[-1]["id"]} if seen else {}
            page = (await client.get("/v1/events", params={"limit": 50, **after})).json()
            seen += page["data"]
            if not page["has_more"]:
                break
    assert len(seen) == len({event["id"] for event in seen}) == sum(len(life.events) for life in lives)
    assert [event["created"] for event in seen] == sorted((event["created"] for event in seen), reverse=True)


async def test_without_a_status_ended_subscriptions_are_left_out(stand_ins: StandIns, lives: list[Life]) -> None:
    statuses = [final["status"] for life in lives for final in life.final]
    async with httpx.AsyncClient(base_url=stand_ins.stripe_url, headers=STRIPE_HEADERS) as client:
        unended = (await client.get("/v1/subscriptions", params={"limit": 100})).json()["data"]
        ended = (await client.get("/v1/subscriptions", params={"limit": 100, "status": "ended"})).json()["data"]
    assert len(ended) == statuses.count("canceled")
    assert len(unended) == len(statuses) - len(ended)


async def test_another_api_version_is_refused(stand_ins: StandIns) -> None:
    headers = {**STRIPE_HEADERS, "Stripe-Version": "2020-08-27"}
    async with httpx.AsyncClient(base_url=stand_ins.stripe_url, headers=headers) as client:
        answer = await client.get("/v1/events")
    assert answer.status_code == 400


async def test_a_stand_in_ends_with_its_parent() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "bursar.service.demo.mail_sink",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert set(json.loads(await process.stdout.readline())) == {"http", "smtp"}
    process.stdin.close()
    async with asyncio.timeout(10):
        assert await process.wait() == 0
