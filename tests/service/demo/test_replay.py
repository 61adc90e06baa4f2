"""The replay over real HTTP, against a relay that checks what Stripe's SDK checks."""

from collections import Counter
from collections.abc import Callable
from http import HTTPStatus

import orjson
import stripe
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bursar.service.demo.generator import generate_events
from bursar.service.demo.lives import JsonObject, all_events
from bursar.service.demo.replay import deliveries, replay
from bursar.service.demo.standing_in import LOOPBACK, listen, port_of
from tests.service.demo.serving import serving

SECRET = "whsec_demo"
EVENTS = all_events(generate_events(users=10, events=100, seed=1))


class Relay:
    """Verifies and counts; `status` decides on the answer from how often the event came before."""

    def __init__(self, status: Callable[[int], int] = lambda _seen: 200) -> None:
        self.came: Counter[str] = Counter()
        self._status = status

    def app(self) -> Starlette:
        return Starlette(routes=[Route("/webhooks/stripe", self.take, methods=["POST"])])

    async def take(self, request: Request) -> Response:
        body = await request.body()
        header = request.headers["Stripe-Signature"]
        stripe.WebhookSignature.verify_header(body.decode(), header, SECRET, tolerance=300)
        key = orjson.loads(body)["id"]
        self.came[key] += 1
        return Response(status_code=self._status(self.came[key] - 1))


def _ids(events: list[JsonObject]) -> list[str]:
    return [event["id"] for event in events]


async def test_ms_1_every_event_comes_signed_as_stripe_signs() -> None:
    relay = Relay()
    async with serving(relay.app()) as url:
        figures = await replay(deliveries(EVENTS, seed=7), url=f"{url}/webhooks/stripe", secret=SECRET)
    assert relay.came.keys() == set(_ids(EVENTS))
    assert (figures.sent, figures.duplicates_sent) == (120, 20)
    assert figures.answers == {200: 120}
    assert figures.accepted == relay.came


async def test_a_wrong_secret_is_counted_and_not_tried_again() -> None:
    def refuse(_seen: int) -> int:
        return HTTPStatus.BAD_REQUEST

    async with serving(Relay(refuse).app()) as url:
        figures = await replay(EVENTS[:10], url=f"{url}/webhooks/stripe", secret=SECRET)
    assert figures.answers == {400: 10}
    assert figures.retries == 0
    assert not +figures.accepted


async def test_a_503_is_tried_again_until_the_event_is_taken() -> None:
    relay = Relay(lambda seen: 503 if seen == 0 else 200)
    async with serving(relay.app()) as url:
        figures = await replay(EVENTS[:10], url=f"{url}/webhooks/stripe", secret=SECRET)
    assert figures.answers == {503: 10, 200: 10}
    assert (figures.retries, figures.undelivered) == (10, 0)
    assert sum(figures.accepted.values()) == 10


async def test_what_nobody_takes_in_time_is_undelivered() -> None:
    with listen(0) as closed:
        port = port_of(closed)
    url = f"http://{LOOPBACK}:{port}/webhooks/stripe"
    figures = await replay(EVENTS[:3], url=url, secret=SECRET, give_up_after_seconds=0.3)
    assert figures.undelivered == 3


def test_deliveries_are_shuffled_and_doubled_by_their_seed() -> None:
    queue = deliveries(EVENTS, seed=3)
    assert _ids(queue) == _ids(deliveries(EVENTS, seed=3)) != _ids(deliveries(EVENTS, seed=4))
    assert Counter(Counter(_ids(queue)).values()) == {1: 80, 2: 20}
    assert _ids(queue)[:20] != _ids(EVENTS)[:20]
