"""Brings the servers up from the best origin that this machine has, and takes down what it brought up."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bursar.billing.values import Value
from bursar.service.servers.containers import postgres_container, rabbitmq_container
from bursar.service.servers.control import ServerControl, Servers
from bursar.service.servers.debian import install_missing
from bursar.service.servers.errors import InstanceInUse, ServersUnavailable
from bursar.service.servers.instance import Instance, locked_instance
from bursar.service.servers.machine import Owner, find_postgres, find_rabbitmq, observe, server_owner
from bursar.service.servers.origins import Origin, origins
from bursar.service.servers.postgres import SHARED_BUFFERS_MB, PrivatePostgres
from bursar.service.servers.rabbitmq import PrivateRabbitmq

ROOT = Path(".bursar")
MANAGEMENT_PORT = 15672
Progress = Callable[[str], None]


def to_stderr(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


class Wanted(Value):
    """What the caller asks for. Only PostgreSQL can be had alone."""

    name: str
    durable: bool
    root: Path
    progress: Progress = to_stderr
    with_rabbitmq: bool = True
    shared_buffers_mb: int = SHARED_BUFFERS_MB

    @property
    def servers(self) -> str:
        """For people."""
        return "PostgreSQL and RabbitMQ" if self.with_rabbitmq else "PostgreSQL"


@contextmanager
def running_servers(
    name: str,
    *,
    durable: bool,
    root: Path = ROOT,
    progress: Progress = to_stderr,
    with_rabbitmq: bool = True,
    shared_buffers_mb: int = SHARED_BUFFERS_MB,
) -> Iterator[Servers]:
    """Servers to use until the block ends. Blocking: enter it before the event loop, or in a thread.

    `name` tells instances apart (`test`, `demo`, `up`); a durable one keeps its data and has one user at a time.
    Servers that the environment names keep the buffers that they have.
    Raises ServersUnavailable with one sentence when none can be had.
    """
    wanted = Wanted(name, durable, root, progress, with_rabbitmq, shared_buffers_mb)
    with ExitStack() as stack:
        yield stack.enter_context(_first_that_works(wanted))


@contextmanager
def _first_that_works(wanted: Wanted) -> Iterator[Servers]:
    with_rabbitmq = wanted.with_rabbitmq
    candidates = origins(observe(os.environ, with_rabbitmq=with_rabbitmq), with_rabbitmq=with_rabbitmq)
    for number, origin in enumerate(candidates, start=1):
        stack = ExitStack()
        try:
            servers = stack.enter_context(_from(origin, wanted))
        except InstanceInUse:
            raise
        except ServersUnavailable as error:
            if number == len(candidates):
                raise
            wanted.progress(f"{error} Trying the next way.")
            continue
        with stack:
            yield servers
        return


def _from(origin: Origin, wanted: Wanted) -> AbstractContextManager[Servers]:
    match origin:
        case Origin.ENVIRONMENT:
            return _environment_servers(os.environ, with_rabbitmq=wanted.with_rabbitmq)
        case Origin.DOCKER:
            return docker_servers(wanted)
        case Origin.PRIVATE | Origin.PRIVATE_AFTER_INSTALL:
            return private_servers(wanted)


@contextmanager
def _environment_servers(environment: Mapping[str, str], *, with_rabbitmq: bool) -> Iterator[Servers]:
    database_url, origin = environment["DATABASE_URL"], "environment"
    if not with_rabbitmq:
        yield Servers(database_url, "", "", origin)
        return
    amqp_url = environment["AMQP_URL"]
    management_url = environment.get("AMQP_MANAGEMENT_URL") or _usual_management_url(amqp_url)
    yield Servers(database_url, amqp_url, management_url, origin)


def _usual_management_url(amqp_url: str) -> str:
    address = urlsplit(amqp_url)
    login, at, _ = address.netloc.rpartition("@")
    return f"http://{login}{at}{address.hostname}:{MANAGEMENT_PORT}"


def _instance(wanted: Wanted, owner: Owner | None) -> AbstractContextManager[Instance]:
    return locked_instance(wanted.root, wanted.name, durable=wanted.durable, owner=owner, progress=wanted.progress)


@contextmanager
def private_servers(wanted: Wanted) -> Iterator[Servers]:
    """Servers of our own under `root/name`; installs them first where that is possible."""
    with ExitStack() as stack:
        instance = stack.enter_context(_instance(wanted, server_owner()))
        install_missing(instance.folder / "install.log", wanted.progress, with_rabbitmq=wanted.with_rabbitmq)
        programs, script = find_postgres(), find_rabbitmq()
        assert programs, "install_missing leaves it or raises"
        wanted.progress(f"Starting private {wanted.servers} in {instance.folder}")
        postgres = PrivatePostgres(instance, programs, shared_buffers_mb=wanted.shared_buffers_mb)
        if not wanted.with_rabbitmq:
            stack.callback(postgres.stop)
            postgres.start()
            yield Servers(postgres.url, "", "", "private", postgres)
            return
        assert script, "install_missing leaves it or raises"
        rabbitmq = PrivateRabbitmq(instance, script)
        stack.callback(_at_once, postgres.stop, rabbitmq.stop if wanted.durable else rabbitmq.kill)
        _at_once(postgres.start, rabbitmq.start)
        yield Servers(postgres.url, rabbitmq.url, rabbitmq.management_url, "private", postgres, rabbitmq)


@contextmanager
def docker_servers(wanted: Wanted) -> Iterator[Servers]:
    """Servers in containers; what Docker refuses becomes ServersUnavailable."""
    with ExitStack() as stack:
        instance = stack.enter_context(_instance(wanted, None))
        wanted.progress(f"Starting {wanted.servers} with Docker")
        postgres, database_url = postgres_container(instance, shared_buffers_mb=wanted.shared_buffers_mb)
        if not wanted.with_rabbitmq:
            stack.callback(postgres.remove)
            _start_containers(instance, postgres)
            yield Servers(database_url, "", "", "docker", postgres)
            return
        rabbitmq, amqp_url, management_url = rabbitmq_container(instance)
        stack.callback(_at_once, postgres.remove, rabbitmq.remove)
        _start_containers(instance, postgres, rabbitmq)
        yield Servers(database_url, amqp_url, management_url, "docker", postgres, rabbitmq)


def _start_containers(instance: Instance, *servers: ServerControl) -> None:
    from docker.errors import DockerException  # noqa: PLC0415 - slow to import

    try:
        _at_once(*(server.start for server in servers))
    except (DockerException, OSError) as error:
        raise ServersUnavailable(f"Docker could not start {instance.folder.name}: {type(error).__name__}.") from error


def _at_once(*actions: Callable[[], None]) -> None:
    """Runs the actions side by side; all have ended when it returns or raises the first error."""
    with ThreadPoolExecutor(len(actions)) as pool:
        running = [pool.submit(action) for action in actions]
    for action in running:
        action.result()
