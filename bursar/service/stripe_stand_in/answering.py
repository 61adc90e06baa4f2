"""One call from its parameters to its answer: checked, looked up by its key, carried out, remembered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import MappingProxyType
from typing import Protocol

from bursar.billing.stripe.objects import API_VERSION
from bursar.billing.values import Value, replace
from bursar.service.demo.lives import JsonObject
from bursar.service.demo.stripe_shapes import copied
from bursar.service.stripe_stand_in.faults import Fault, Faults
from bursar.service.stripe_stand_in.forms import Params
from bursar.service.stripe_stand_in.idempotency import Answer, Keys
from bursar.service.stripe_stand_in.refusals import StripeRefusal
from bursar.service.stripe_stand_in.routes import Route, find
from bursar.service.stripe_stand_in.world import Asked, Card, World

PAYMENT_FAULTS = {Fault.DECLINED: Card.DECLINED, Fault.CHALLENGE: Card.CHALLENGE}
NOT_KEPT = frozenset({Fault.RATE_LIMITED, Fault.LOCK_TIMEOUT, Fault.TIMEOUT_BEFORE})


class Description(Protocol):
    """What requests and answers are validated against. Each says what is wrong, with the field."""

    def mismatch_of_request(self, method: str, template: str, params: Params) -> str | None: ...

    def mismatch_of_answer(self, method: str, template: str, status: int, answer: JsonObject) -> str | None: ...


class Call(Value):
    """A request as it came. Header names are in lower case."""

    method: str
    path: str
    params: Params
    headers: Mapping[str, str] = MappingProxyType({})

    @property
    def idempotency_key(self) -> str | None:
        """Stripe reads it on POST only."""
        return self.headers.get("idempotency-key") if self.method == "POST" else None


class Begun(Value):
    """An answer, before it is given: the fault that it meets, and whether the call's key is its own."""

    answer: Answer
    fault: Fault | None = None
    has_key: bool = False


@dataclass(slots=True)
class Answering:
    """Answers calls about a world."""

    world: World
    faults: Faults
    description: Description | None
    keys: Keys = field(default_factory=Keys)
    mismatches: list[str] = field(default_factory=list)  # with Stripe's description: path and field

    def begin(self, call: Call) -> Begun:
        """The answer. `end` must follow once it was given, or was not."""
        request_id = self.world.ids.new("req", 14)
        begun = self._begin(call, request_id)
        answer = replace(begun.answer, headers={"Request-Id": request_id, **begun.answer.headers})
        return replace(begun, answer=answer)

    def end(self, call: Call, begun: Begun) -> None:
        """The call is over: its key remembers the answer, or is free again."""
        if begun.has_key and call.idempotency_key is not None:
            self.keys.end(call.idempotency_key, None if begun.fault in NOT_KEPT else begun.answer)

    def _begin(self, call: Call, request_id: str) -> Begun:
        route = find(call.method, call.path)
        key = call.idempotency_key
        try:
            _check_headers(call)
            if route is None:
                raise _unknown(call)
            self._check_request(call, route)
            if key and (known := self.keys.begin(key, (call.method, call.path, call.params))):
                return Begun(known)
        except StripeRefusal as refusal:
            return Begun(Answer(refusal.status, refusal.body))
        fault = self.faults.take(route.name, f"{call.method} {call.path}")
        return Begun(self._carry_out(call, route, fault, request_id), fault, has_key=key is not None)

    def _carry_out(self, call: Call, route: Route, fault: Fault | None, request_id: str) -> Answer:
        if instead := _instead(fault):
            return instead
        self.world.asked = Asked(request_id, call.idempotency_key)
        self.world.failing_payments = PAYMENT_FAULTS.get(fault) if fault else None
        keys = {} if route.key is None else {route.template.partition("{")[2].partition("}")[0]: route.key}
        named = {"subscription": keys["subscription_exposed_id"]} if "subscription_exposed_id" in keys else keys
        try:
            answer = Answer(HTTPStatus.OK, copied(route.handler(self.world, call.params, **named)))
        except StripeRefusal as refusal:
            answer = Answer(refusal.status, copied(refusal.body))
        except Exception as bug:  # noqa: BLE001 - the test must hear of it, whatever the caller makes of a 500
            self.mismatches.append(f"{route.name}: the stand-in broke, {type(bug).__name__}: {bug}")
            return _server_error()
        finally:
            self.world.asked = self.world.failing_payments = None
        self._check_answer(call, route, answer)
        return _server_error() if fault is Fault.ERROR_AFTER else answer

    def _check_request(self, call: Call, route: Route) -> None:
        if self.description is None:
            return
        problem = self.description.mismatch_of_request(call.method, route.template, call.params)
        if problem:
            self.mismatches.append(f"{route.name}: request, {problem}")
            raise StripeRefusal(f"Received unknown or invalid parameter: {problem}", code="parameter_unknown")

    def _check_answer(self, call: Call, route: Route, answer: Answer) -> None:
        if self.description is None:
            return
        problem = self.description.mismatch_of_answer(call.method, route.template, answer.status, answer.body)
        if problem:
            self.mismatches.append(f"{route.name}: answer {answer.status}, {problem}")


def _check_headers(call: Call) -> None:
    if not call.headers.get("authorization", "").startswith(("Bearer sk_test_", "Bearer rk_test_")):
        raise StripeRefusal("Invalid API Key provided", status=HTTPStatus.UNAUTHORIZED)
    if call.headers.get("stripe-version") != API_VERSION:
        raise StripeRefusal(f"Only API version {API_VERSION} is known here")


def _unknown(call: Call) -> StripeRefusal:
    message = f"Unrecognized request URL ({call.method}: {call.path})."
    return StripeRefusal(message, status=HTTPStatus.NOT_FOUND)


def _instead(fault: Fault | None) -> Answer | None:
    """What is answered where the call is not carried out."""
    if fault is Fault.RATE_LIMITED:
        return _error(HTTPStatus.TOO_MANY_REQUESTS, {"code": "rate_limit", "message": "Too many requests."}, retry="1")
    if fault is Fault.LOCK_TIMEOUT:
        return _error(HTTPStatus.CONFLICT, {"code": "lock_timeout", "message": "This object cannot be accessed now."})
    if fault in (Fault.ERROR_BEFORE, Fault.TIMEOUT_BEFORE):
        return _server_error()
    return None


def _server_error() -> Answer:
    return _error(HTTPStatus.INTERNAL_SERVER_ERROR, {"type": "api_error", "message": "Something went wrong."})


def _error(status: HTTPStatus, details: JsonObject, *, retry: str | None = None) -> Answer:
    headers = {"Retry-After": retry} if retry else {}
    return Answer(status, {"error": {"type": "invalid_request_error", **details}}, headers)
