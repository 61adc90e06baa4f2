"""Finds PostgreSQL and RabbitMQ, or brings them up: the environment, Docker, private ones, apt-get, in this order."""

from bursar.service.servers.control import ServerControl, Servers
from bursar.service.servers.errors import ServersUnavailable
from bursar.service.servers.running import running_servers

__all__ = ["ServerControl", "Servers", "ServersUnavailable", "running_servers"]
