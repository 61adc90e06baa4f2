"""Stripe in the same process: the real gateway and SDK, whose requests the stand-in answers."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit

import orjson
import stripe

from bursar.service.demo.lives import JsonObject
from bursar.service.gateways.stripe import RateBudget, StripeGateway
from bursar.service.gateways.stripe.budget import Alarm
from bursar.service.observability.metrics import Metrics
from bursar.service.simulation.dying import Mortality, Point
from bursar.service.stripe_stand_in.answering import PAYMENT_FAULTS, Answering, Call
from bursar.service.stripe_stand_in.faults import Fault, Faults
from bursar.service.stripe_stand_in.forms import decode
from bursar.service.stripe_stand_in.passing_time import advance
from bursar.service.stripe_stand_in.selling import sell
from bursar.service.stripe_stand_in.world import COMMIT, STANDARD, World

HANGS_UP = (Fault.TIMEOUT_BEFORE, Fault.TIMEOUT_AFTER)
OF_EFFECTS = (Fault.TIMEOUT_AFTER, Fault.ERROR_BEFORE, Fault.ERROR_AFTER)
PAYING = re.compile(r"/payment_intents$|/pay$")
SECRET_KEY = "sk_test_simulated"  # noqa: S105 - made up
UNBOUNDED_PER_SECOND = 1e6


@dataclass(slots=True)
class SimulatedStripe:
    """It outlives every process, and remembers what it was asked."""

    world: World
    next_fault: Fault | None = None
    next_payment_fault: Fault | None = None  # of a call that pays, of which there are few: it waits for one
    calls: list[tuple[str, str, object, str | None]] = field(default_factory=list)
    answering: Answering = field(init=False)

    def __post_init__(self) -> None:
        self.answering = Answering(self.world, Faults(), None)
        for price in (STANDARD, COMMIT):
            sell(self.world, price)

    def pass_time(self, now: datetime) -> None:
        """Whatever falls due until then happens."""
        advance(self.world, int(now.timestamp()))

    def answer(self, call: Call) -> tuple[bytes, int, Mapping[str, str]] | None:
        """None where the caller gets no answer."""
        self.calls.append((call.method, call.path, call.params, call.idempotency_key))
        fault = self._fault_of(call)
        if fault:
            self.answering.faults.next(f"{call.method} {call.path}", fault)
        begun = self.answering.begin(call)
        self.answering.end(call, begun)
        if begun.fault in HANGS_UP:
            return None
        return orjson.dumps(begun.answer.body), int(begun.answer.status), begun.answer.headers

    def _fault_of(self, call: Call) -> Fault | None:
        if self.next_payment_fault and _pays(call):
            fault, self.next_payment_fault = self.next_payment_fault, None
            return fault
        if self.next_fault and _may_meet(call, self.next_fault):
            fault, self.next_fault = self.next_fault, None
            return fault
        return None

    def all(self, kind: str, **fields: object) -> list[JsonObject]:
        """Its objects with these fields, oldest first."""
        return self.world.all(kind, **fields)


def _may_meet(call: Call, fault: Fault) -> bool:
    """A fault waits for a call to which it makes a difference: one that pays, or one that has an effect."""
    if fault in PAYMENT_FAULTS:
        return _pays(call)
    return call.method == "POST" or fault not in OF_EFFECTS


def _pays(call: Call) -> bool:
    return call.method == "POST" and PAYING.search(call.path) is not None


def stripe_gateway(outside: SimulatedStripe, mortality: Mortality, metrics: Metrics) -> StripeGateway:
    """A process's way to Stripe."""
    return StripeGateway(
        SECRET_KEY,
        api_base="https://stripe.simulated",
        budget=RateBudget(UNBOUNDED_PER_SECOND, _BudgetClock()),
        metrics=metrics,
        http=_InProcess(outside, mortality),
    )


class _InProcess(stripe.HTTPClient):
    """What the SDK calls instead of HTTP."""

    name = "simulated"

    def __init__(self, outside: SimulatedStripe, mortality: Mortality) -> None:
        super().__init__()
        self._outside = outside
        self._mortality = mortality

    async def request_async(
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: str | None = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One request. The process may die on either side of its effect."""
        self._mortality.pass_point(Point.BEFORE_CALL)
        address = urlsplit(url)
        params = decode((post_data or "") if method == "post" else address.query)
        lowered = {name.lower(): str(value) for name, value in (headers or {}).items()}
        answer = self._outside.answer(Call(method.upper(), address.path, params, lowered))
        self._mortality.pass_point(Point.AFTER_CALL)
        if answer is None:
            raise stripe.APIConnectionError("simulated: no answer")  # type: ignore[no-untyped-call]
        return answer

    async def close_async(self) -> None:
        """Nothing is open."""


class _BudgetClock:
    """The pauses that Stripe asks for are over as soon as somebody waits for their end."""

    def __init__(self) -> None:
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def call_at(self, when: float, callback: Callable[[], object], /) -> Alarm:
        def ring() -> None:
            self._now = max(self._now, when)
            callback()

        return asyncio.get_running_loop().call_soon(ring)
