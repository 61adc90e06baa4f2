"""Free ports, and whether a server answers in its own protocol."""

import http.client
import secrets
import socket
import struct

from bursar.service.servers.errors import ServersUnavailable

LOOPBACK = "127.0.0.1"
# Below the kernel's range for outgoing connections: there, a client that retries a stopped server can be given that
# very port as its own and end up connected to itself, and the server cannot have it back.
PORTS = range(20_000, 30_000)
MAX_PORT_TRIES = 100
ANSWER_SECONDS = 1.0


def free_port() -> int:
    for _ in range(MAX_PORT_TRIES):
        port = secrets.choice(PORTS)
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise ServersUnavailable(f"No free port between {PORTS.start} and {PORTS.stop} on {LOOPBACK}.")


def postgres_answers(port: int, user: str, database: str) -> bool:
    """Asks for a session: a server that still recovers answers with an error, a ready one asks for the password."""
    parameters = f"user\0{user}\0database\0{database}\0\0".encode()
    version = 3 << 16
    return _first_byte(port, struct.pack("!ii", len(parameters) + 8, version) + parameters) == b"R"


def rabbitmq_answers(port: int) -> bool:
    """A ready broker answers the protocol header with a method frame, `connection.start`."""
    return _first_byte(port, b"AMQP\x00\x00\x09\x01") == b"\x01"


def http_answers(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _first_byte(port: int, greeting: bytes) -> bytes:
    try:
        with socket.create_connection((LOOPBACK, port), timeout=ANSWER_SECONDS) as connection:
            connection.sendall(greeting)
            return connection.recv(1)
    except OSError:
        return b""
