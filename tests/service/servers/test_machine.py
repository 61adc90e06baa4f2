import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bursar.service.servers.machine import docker_answers, observe


@contextmanager
def engine(path: Path, answer: bytes) -> Iterator[str]:
    """A listener that gives one answer, as a Docker engine would to a ping."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)

        def give() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1024)
                connection.sendall(answer)

        thread = threading.Thread(target=give, daemon=True)
        thread.start()
        yield f"unix://{path}"
        thread.join(5)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [(b"HTTP/1.0 200 OK\r\n\r\nOK", True), (b"HTTP/1.0 500 Internal Server Error\r\n\r\n", False), (b"", False)],
)
def test_docker_counts_when_its_engine_answers_a_ping(tmp_path: Path, answer: bytes, *, expected: bool) -> None:
    with engine(tmp_path / "docker.sock", answer) as host:
        assert docker_answers(host) is expected


def test_docker_without_an_engine_or_on_another_machine_does_not_count(tmp_path: Path) -> None:
    assert not docker_answers(f"unix://{tmp_path / 'docker.sock'}")
    assert not docker_answers("tcp://127.0.0.1:2375")


def test_both_addresses_in_the_environment_are_seen() -> None:
    facts = observe({"DATABASE_URL": "postgresql://there", "AMQP_URL": "amqp://there"})
    assert (facts.database_url, facts.amqp_url, facts.docker) == (True, True, False)


def test_docker_is_not_asked_where_the_environment_names_what_is_wanted(tmp_path: Path) -> None:
    with engine(tmp_path / "docker.sock", b"HTTP/1.0 200 OK\r\n\r\nOK") as host:
        environment = {"DATABASE_URL": "postgresql://there", "DOCKER_HOST": host}
        assert not observe(environment, with_rabbitmq=False).docker
        assert observe(environment).docker
