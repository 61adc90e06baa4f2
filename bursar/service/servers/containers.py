"""The servers as Docker containers, through testcontainers, which also removes them when this process is killed."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from bursar.billing.values import Value
from bursar.service.servers.errors import ServersUnavailable
from bursar.service.servers.instance import Instance
from bursar.service.servers.probes import LOOPBACK, free_port, http_answers, postgres_answers, rabbitmq_answers

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

USER = "bursar"
POSTGRES_IMAGE = "postgres:17-alpine"
RABBITMQ_IMAGE = "rabbitmq:4.1-management-alpine"
READY_SECONDS = 120.0
STOP_GRACE_SECONDS = 15
POLL_SECONDS = 0.1


class Image(Value):
    """What to run. `ports` maps container ports to ours; `data` is the folder kept by a durable instance."""

    name: str
    image: str
    environment: dict[str, str]
    ports: dict[int, int]
    data: str
    command: tuple[str, ...] = ()


class ContainerServer:
    """One server in a container. Its ports on the loopback address are fixed, so a restart keeps them."""

    def __init__(self, instance: Instance, image: Image, ready: Callable[[], bool]) -> None:
        self._container = _container(instance, image)
        self._name = image.name
        self._ready = ready
        self._created = False

    def start(self) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if time.monotonic() > deadline:
                raise ServersUnavailable(f"The container of {self._name} did not become ready.")
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop(timeout=STOP_GRACE_SECONDS)

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def remove(self) -> None:
        """Removes the container; the named volume of a durable instance stays."""
        self._container.stop()


def _container(instance: Instance, image: Image) -> "DockerContainer":
    from testcontainers.core.container import DockerContainer  # noqa: PLC0415 - slow to import

    name = f"bursar-{instance.folder.name}-{image.name}"
    container = DockerContainer(image.image).with_envs(**image.environment)
    for inside, ours in image.ports.items():
        # The address keeps the port off the network; the Docker client takes a pair, testcontainers' type does not.
        container.ports[f"{inside}/tcp"] = (LOOPBACK, ours)  # type: ignore[assignment]
    if image.command:
        container.with_command(list(image.command))
    if instance.durable:
        container.with_volume_mapping(name, image.data, "rw")
    return container.with_kwargs(hostname=name)  # RabbitMQ's data belongs to its host's name


def postgres_container(instance: Instance, *, shared_buffers_mb: int) -> tuple[ContainerServer, str]:
    """The server and its address."""
    password, port = instance.secret("postgres-password"), free_port()
    image = Image(
        name="postgres",
        image=POSTGRES_IMAGE,
        environment={"POSTGRES_USER": USER, "POSTGRES_PASSWORD": password, "POSTGRES_DB": USER},
        ports={5432: port},
        data="/var/lib/postgresql/data",
        command=("postgres", "-c", "max_connections=200", "-c", f"shared_buffers={shared_buffers_mb}MB")
        + (() if instance.durable else ("-c", "fsync=off", "-c", "full_page_writes=off")),
    )
    server = ContainerServer(instance, image, lambda: postgres_answers(port, USER, USER))
    return server, f"postgresql://{USER}:{password}@{LOOPBACK}:{port}/{USER}"


def rabbitmq_container(instance: Instance) -> tuple[ContainerServer, str, str]:
    """The server, its address and its management address."""
    password, amqp, management = instance.secret("rabbitmq-password"), free_port(), free_port()
    image = Image(
        name="rabbitmq",
        image=RABBITMQ_IMAGE,
        environment={"RABBITMQ_DEFAULT_USER": USER, "RABBITMQ_DEFAULT_PASS": password},
        ports={5672: amqp, 15672: management},
        data="/var/lib/rabbitmq",
    )
    server = ContainerServer(instance, image, lambda: rabbitmq_answers(amqp) and http_answers(management))
    login = f"{USER}:{password}@{LOOPBACK}"
    return server, f"amqp://{login}:{amqp}/", f"http://{login}:{management}"
