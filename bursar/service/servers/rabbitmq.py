"""A private RabbitMQ under an instance's folder, with a name server (epmd) of its own."""

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from bursar.service.servers.errors import ServersUnavailable
from bursar.service.servers.guarded import Command, GuardedProcess, wait_until_ready
from bursar.service.servers.instance import Instance, empty, write_private
from bursar.service.servers.probes import LOOPBACK, free_port, http_answers, rabbitmq_answers

USER = "bursar"
READY_SECONDS = 120.0  # 6 to 8 s on an idle machine with two cores
STOP_GRACE_SECONDS = 20.0
EPMD_GRACE_SECONDS = 2.0
MAX_START_TRIES = 3  # another process may take a port between choosing and listening


class Ports:
    """The four ports of one broker, chosen together."""

    def __init__(self) -> None:
        self.amqp, self.management, self.distribution, self.epmd = (free_port() for _ in range(4))


class PrivateRabbitmq:
    """RabbitMQ on ports of its own, listening on the loopback address only, with a random password and cookie."""

    def __init__(self, instance: Instance, script: Path) -> None:
        self._instance = instance
        self._script = script
        self._broker = GuardedProcess(instance)
        self._epmd = GuardedProcess(instance)
        self._ports: Ports | None = None

    @property
    def url(self) -> str:
        return f"amqp://{self._login}:{self._chosen.amqp}/"

    @property
    def management_url(self) -> str:
        return f"http://{self._login}:{self._chosen.management}"

    def start(self) -> None:
        """The first start chooses the ports; later ones keep them."""
        if self._ports:
            self._run(self._ports)
            return
        self._broker.evict("rabbitmq")
        if not self._instance.durable:
            empty(self._home / "data")
        for tries_left in reversed(range(MAX_START_TRIES)):
            ports = Ports()
            try:
                self._run(ports)
            except ServersUnavailable:
                if not tries_left:
                    raise
            else:
                self._ports = ports
                return

    def stop(self) -> None:
        self._broker.stop()
        self._epmd.stop()

    def kill(self) -> None:
        self._broker.kill()
        self._epmd.kill()

    @property
    def _chosen(self) -> Ports:
        assert self._ports, "the broker was never started"
        return self._ports

    @property
    def _login(self) -> str:
        return f"{USER}:{self._instance.secret('rabbitmq-password')}@{LOOPBACK}"

    @property
    def _home(self) -> Path:
        return self._instance.owned_folder("rabbitmq")

    def _run(self, ports: Ports) -> None:
        self._write_configuration(ports)
        environment = self._environment(ports)
        epmd = shutil.which("epmd")
        if epmd:  # else the broker starts one itself, which outlives it
            self._epmd.start(_epmd_command(epmd, ports, environment))
        self._broker.start(self._command(environment))
        if not wait_until_ready(self._broker, lambda: _is_ready(ports), READY_SECONDS):
            self.kill()
            raise ServersUnavailable(f"RabbitMQ did not start; see {self._instance.folder / 'rabbitmq.log'}.")

    def _write_configuration(self, ports: Ports) -> None:
        files = {
            "rabbitmq.conf": _configuration(ports, self._instance.secret("rabbitmq-password")),
            "enabled_plugins": "[rabbitmq_management].\n",
            ".erlang.cookie": self._instance.secret("rabbitmq-cookie"),
        }
        for name, text in files.items():
            write_private(self._home / name, text)
            self._instance.give(self._home / name)

    def _command(self, environment: Mapping[str, str]) -> Command:
        return Command(
            name="rabbitmq",
            arguments=(str(self._script),),
            environment=environment,
            stop_signal=signal.SIGTERM,
            grace_seconds=STOP_GRACE_SECONDS,
        )

    def _environment(self, ports: Ports) -> Mapping[str, str]:
        home = self._home
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "ERL_EPMD_PORT": str(ports.epmd),
            "RABBITMQ_NODENAME": f"bursar-{self._instance.folder.name}@localhost",
            "RABBITMQ_DIST_PORT": str(ports.distribution),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(home / "rabbitmq-env.conf"),  # not there: the system's must not be read
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(home / "data"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_LOGS": "-",
            # Schedulers that spin while idle would take the two cores from the tests.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none +sbwtdcpu none +sbwtdio none"
            ),
        }


def _configuration(ports: Ports, password: str) -> str:
    return "\n".join(
        [
            f"listeners.tcp.1 = {LOOPBACK}:{ports.amqp}",
            f"management.tcp.ip = {LOOPBACK}",
            f"management.tcp.port = {ports.management}",
            "management_agent.disable_metrics_collector = true",
            f"default_user = {USER}",
            f"default_pass = {password}",
            "disk_free_limit.absolute = 100MB",
            "log.console.level = warning",
            "",
        ]
    )


def _epmd_command(program: str, ports: Ports, environment: Mapping[str, str]) -> Command:
    """In the foreground, so that it ends with us; by itself it would stay for ever."""
    return Command(
        name="epmd",
        arguments=(program, "-port", str(ports.epmd), "-address", LOOPBACK, "-relaxed_command_check"),
        environment=environment,
        stop_signal=signal.SIGTERM,
        grace_seconds=EPMD_GRACE_SECONDS,
    )


def _is_ready(ports: Ports) -> bool:
    return rabbitmq_answers(ports.amqp) and http_answers(ports.management)
