"""One call from its parameters to its answer: checked, looked up by its key, carried out, remembered."""

from copy import deepcopy
from dataclasses import dataclass, field
from http import HTTPStatus

from bursar.billing.stripe_objects import API_VERSION
from bursar.service.demo.lives import JsonObject
from tests.stripe.faults import Fault, Faults
from tests.stripe.forms import Params
from tests.stripe.idempotency import Answer, Keys
from tests.stripe.refusals import StripeRefusal
from tests.stripe.routes import Route, find
from tests.stripe.validation import Description
from tests.stripe.world import Asked, Card, World

PAYMENT_FAULTS = {Fault.DECLINED: Card.DECLINED, Fault.CHALLENGE: Card.CHALLENGE}
NOT_KEPT = frozenset({Fault.RATE_LIMITED, Fault.LOCK_TIMEOUT, Fault.TIMEOUT_BEFORE})


@dataclass(frozen=True, slots=True)
class Call:
    """A request as it came. Header names are in lower case."""

    method: str
    path: str
    params: Params
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def idempotency_key(self) -> str | None:
        """Stripe reads it on POST only."""
        return self.headers.get("idempotency-key") if self.method == "POST" else None


@dataclass(slots=True)
class Answering:
    """Answers calls about a world."""

    world: World
    faults: Faults
    description: Description | None
    keys: Keys = field(default_factory=Keys)
    mismatches: list[str] = field(default_factory=list)  # with Stripe's description: path and field

    def begin(self, call: Call) -> tuple[Answer, Fault | None]:
        """The answer, and the fault that it meets. `end` must follow once it was given, or was not."""
        request_id = self.world.ids.new("req", 14)
        answer, fault = self._answer(call, request_id)
        return Answer(answer.status, answer.body, {"Request-Id": request_id, **answer.headers}), fault

    def end(self, call: Call, answer: Answer, fault: Fault | None) -> None:
        """The call is over: its key is free, or remembers the answer."""
        if (key := call.idempotency_key) is None or key not in self.keys.known:
            return
        if answer.status != HTTPStatus.CONFLICT and fault not in NOT_KEPT:
            self.keys.keep(key, answer)
        self.keys.end(key)

    def _answer(self, call: Call, request_id: str) -> tuple[Answer, Fault | None]:
        route = find(call.method, call.path)
        try:
            _check_headers(call)
            if route is None:
                raise _unknown(call)
            self._check_request(call, route)
            asked = (call.method, call.path, call.params)
            if call.idempotency_key and (known := self.keys.begin(call.idempotency_key, asked)):
                return known, None
        except StripeRefusal as refusal:
            return Answer(refusal.status, refusal.body), Fault.LOCK_TIMEOUT if not refusal.kept else None
        fault = self.faults.take(route.name, f"{call.method} {call.path}")
        return self._carry_out(call, route, fault, request_id), fault

    def _carry_out(self, call: Call, route: Route, fault: Fault | None, request_id: str) -> Answer:
        if instead := _instead(fault):
            return instead
        self.world.asked = Asked(request_id, call.idempotency_key)
        self.world.failing_payments = PAYMENT_FAULTS.get(fault) if fault else None
        keys = {} if route.key is None else {route.template.partition("{")[2].partition("}")[0]: route.key}
        named = {"subscription": keys["subscription_exposed_id"]} if "subscription_exposed_id" in keys else keys
        try:
            answer = Answer(HTTPStatus.OK, deepcopy(route.handler(self.world, call.params, **named)))
        except StripeRefusal as refusal:
            answer = Answer(refusal.status, deepcopy(refusal.body))
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
