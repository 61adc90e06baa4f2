"""Brings the servers up from the best origin that this machine has, and takes down what it brought up."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from bursar.service.servers.containers import postgres_container, rabbitmq_container
from bursar.service.servers.control import ServerControl, Servers
from bursar.service.servers.debian import install_missing
from bursar.service.servers.errors import InstanceInUse, ServersUnavailable
from bursar.service.servers.instance import Instance, locked_instance
from bursar.service.servers.machine import find_postgres, find_rabbitmq, observe, server_owner
from bursar.service.servers.origins import Origin, origins
from bursar.service.servers.postgres import PrivatePostgres
from bursar.service.servers.rabbitmq import PrivateRabbitmq

ROOT = Path(".bursar")
MANAGEMENT_PORT = 15672
Progress = Callable[[str], None]


def to_stderr(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()


@contextmanager
def running_servers(
    name: str, *, durable: bool, root: Path = ROOT, progress: Progress = to_stderr
) -> Iterator[Servers]:
    """Servers to use until the block ends. Blocking: enter it before the event loop, or in a thread.

    `name` tells instances apart (`test`, `demo`, `up`); a durable one keeps its data and has one user at a time.
    Raises ServersUnavailable with one sentence when none can be had.
    """
    with ExitStack() as stack:
        yield stack.enter_context(_first_that_works(name, durable=durable, root=root, progress=progress))


@contextmanager
def _first_that_works(name: str, *, durable: bool, root: Path, progress: Progress) -> Iterator[Servers]:
    candidates = origins(observe(os.environ))
    for number, origin in enumerate(candidates, start=1):
        stack = ExitStack()
        try:
            servers = stack.enter_context(_from(origin, name, durable=durable, root=root, progress=progress))
        except InstanceInUse:
            raise
        except ServersUnavailable as error:
            if number == len(candidates):
                raise
            progress(f"{error} Trying the next way.")
            continue
        with stack:
            yield servers
        return


def _from(
    origin: Origin, name: str, *, durable: bool, root: Path, progress: Progress
) -> AbstractContextManager[Servers]:
    match origin:
        case Origin.ENVIRONMENT:
            return _environment_servers(os.environ)
        case Origin.DOCKER:
            return docker_servers(name, durable=durable, root=root, progress=progress)
        case Origin.PRIVATE | Origin.PRIVATE_AFTER_INSTALL:
            return private_servers(name, durable=durable, root=root, progress=progress)


@contextmanager
def _environment_servers(environment: Mapping[str, str]) -> Iterator[Servers]:
    amqp_url = environment["AMQP_URL"]
    yield Servers(
        database_url=environment["DATABASE_URL"],
        amqp_url=amqp_url,
        management_url=environment.get("AMQP_MANAGEMENT_URL") or _usual_management_url(amqp_url),
        origin="environment",
    )


def _usual_management_url(amqp_url: str) -> str:
    address = urlsplit(amqp_url)
    login, at, _ = address.netloc.rpartition("@")
    return f"http://{login}{at}{address.hostname}:{MANAGEMENT_PORT}"


@contextmanager
def private_servers(name: str, *, durable: bool, root: Path, progress: Progress) -> Iterator[Servers]:
    """PostgreSQL and RabbitMQ of our own under `root/name`; installs them first where that is possible."""
    owner = server_owner()
    with ExitStack() as stack:
        instance = stack.enter_context(locked_instance(root, name, durable=durable, owner=owner, progress=progress))
        install_missing(instance.folder / "install.log", progress)
        programs, script = find_postgres(), find_rabbitmq()
        assert programs, "install_missing leaves both or raises"
        assert script, "install_missing leaves both or raises"
        progress(f"Starting private PostgreSQL and RabbitMQ in {instance.folder}")
        postgres, rabbitmq = PrivatePostgres(instance, programs), PrivateRabbitmq(instance, script)
        stack.callback(_at_once, postgres.stop, rabbitmq.stop if durable else rabbitmq.kill)
        _at_once(postgres.start, rabbitmq.start)
        yield Servers(postgres.url, rabbitmq.url, rabbitmq.management_url, "private", postgres, rabbitmq)


@contextmanager
def docker_servers(name: str, *, durable: bool, root: Path, progress: Progress) -> Iterator[Servers]:
    """PostgreSQL and RabbitMQ in containers; what Docker refuses becomes ServersUnavailable."""
    with ExitStack() as stack:
        instance = stack.enter_context(locked_instance(root, name, durable=durable, owner=None, progress=progress))
        progress("Starting PostgreSQL and RabbitMQ with Docker")
        postgres, database_url = postgres_container(instance)
        rabbitmq, amqp_url, management_url = rabbitmq_container(instance)
        stack.callback(_at_once, postgres.remove, rabbitmq.remove)
        _start_containers(instance, postgres, rabbitmq)
        yield Servers(database_url, amqp_url, management_url, "docker", postgres, rabbitmq)


def _start_containers(instance: Instance, postgres: ServerControl, rabbitmq: ServerControl) -> None:
    from docker.errors import DockerException  # noqa: PLC0415 - slow to import

    try:
        _at_once(postgres.start, rabbitmq.start)
    except (DockerException, OSError) as error:
        raise ServersUnavailable(f"Docker could not start {instance.folder.name}: {type(error).__name__}.") from error


def _at_once(*actions: Callable[[], None]) -> None:
    """Runs the actions side by side; all have ended when it returns or raises the first error."""
    with ThreadPoolExecutor(len(actions)) as pool:
        running = [pool.submit(action) for action in actions]
    for action in running:
        action.result()
