"""A stand-in for the instance API: stop, start and destroy with generations (KC-77, KC-91), in memory.

`POST /instances/{id}` provisions, as the product would; `GET /_calls` tells what was called.
The bearer comes from `KILOCLAW_INTERNAL_API_SECRET`.
"""

import asyncio
import os
from collections import Counter
from dataclasses import dataclass, field
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bursar.service.demo.standing_in import has_bearer, listen, port_parser, serve_until_orphaned

MAX_INSTANCES = 100_000
LEADS_TO = {"stop": "stopped", "start": "running", "destroy": "destroyed"}


@dataclass(slots=True)
class Instance:
    """One instance as this side sees it; `done` lists the operations with the generation that brought them about."""

    state: str = "running"
    generation: int = 0
    done: list[tuple[str, int]] = field(default_factory=list)


class InstanceApi:
    """Holds the instances and counts the calls."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._instances: dict[str, Instance] = {}
        self._operations: Counter[str] = Counter()
        self._answers: Counter[int] = Counter()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/instances/{instance_id}", self.provision, methods=["POST"]),
                Route("/instances/{instance_id}", self.operate, methods=["DELETE"]),
                Route("/instances/{instance_id}/{operation}", self.operate, methods=["POST"]),
                Route("/_calls", self.calls, methods=["GET"]),
            ]
        )

    def state_of(self, instance_id: str) -> str:
        """How that instance stands; KeyError for one that was never made."""
        return self._instances[instance_id].state

    async def provision(self, request: Request) -> Response:
        if not has_bearer(request, self._secret):
            return _problem(HTTPStatus.UNAUTHORIZED)
        if len(self._instances) >= MAX_INSTANCES:
            return _problem(HTTPStatus.INSUFFICIENT_STORAGE)
        self._instances.setdefault(request.path_params["instance_id"], Instance())
        return JSONResponse({}, HTTPStatus.CREATED)

    async def operate(self, request: Request) -> Response:
        """Stop, start or destroy; the answer is counted with the operation."""
        operation = request.path_params.get("operation", "destroy")
        if operation not in LEADS_TO:
            return _problem(HTTPStatus.NOT_FOUND)
        answer = self._answer(request, operation)
        self._operations[operation] += 1
        self._answers[answer.status_code] += 1
        return answer

    def _answer(self, request: Request, operation: str) -> Response:
        generation = request.headers.get("X-Generation", "")
        instance = self._instances.get(request.path_params["instance_id"])
        if not has_bearer(request, self._secret):
            return _problem(HTTPStatus.UNAUTHORIZED)
        if not generation.isdecimal() or "Idempotency-Key" not in request.headers:
            return _problem(HTTPStatus.BAD_REQUEST)
        if instance is None or (instance.state == "destroyed" and int(generation) >= instance.generation):
            return _problem(HTTPStatus.NOT_FOUND)
        if int(generation) < instance.generation:
            return _problem(HTTPStatus.PRECONDITION_FAILED)
        return _bring_about(instance, operation, int(generation))

    async def calls(self, _request: Request) -> Response:
        """Counts by operation, by answer and by state; `repeated` counts what one generation brought about twice."""
        instances = self._instances.values()
        return JSONResponse(
            {
                "operations": dict(self._operations),
                "answers": {str(status): count for status, count in self._answers.items()},
                "states": dict(Counter(instance.state for instance in instances)),
                "repeated": sum(len(instance.done) - len(set(instance.done)) for instance in instances),
                "instances": {
                    key: {"state": one.state, "generation": one.generation, "done": [each[0] for each in one.done]}
                    for key, one in self._instances.items()
                },
            }
        )


def _bring_about(instance: Instance, operation: str, generation: int) -> Response:
    instance.state = LEADS_TO[operation]
    instance.generation = generation
    instance.done.append((operation, generation))
    return JSONResponse({"state": instance.state})


def _problem(status: HTTPStatus) -> Response:
    return JSONResponse({"title": status.phrase, "status": status}, status)


def main() -> None:
    arguments = port_parser(__doc__).parse_args()
    api = InstanceApi(os.environ["KILOCLAW_INTERNAL_API_SECRET"])
    asyncio.run(serve_until_orphaned(api.app(), listen(arguments.port)))


if __name__ == "__main__":
    main()
