"""Where the servers may come from, in order: a pure decision over what the machine has."""

from enum import Enum

from bursar.billing.values import Value
from bursar.service.servers.errors import ServersUnavailable

INSTALL_POSTGRES = "Install PostgreSQL (Debian: apt-get install postgresql), start Docker, or set DATABASE_URL."


class Origin(Enum):
    """A place that servers come from."""

    ENVIRONMENT = "environment"
    DOCKER = "docker"
    PRIVATE = "private"
    PRIVATE_AFTER_INSTALL = "private after apt-get install"


class Facts(Value):
    """What was found on this machine."""

    database_url: bool
    amqp_url: bool
    docker: bool
    postgres: bool
    rabbitmq: bool
    apt: bool  # Debian or Ubuntu, as root


def origins(facts: Facts, *, with_rabbitmq: bool = True) -> tuple[Origin, ...]:
    """The origins to try, best first; a later one is for when an earlier one fails in fact (an image cannot be pulled).

    Raises ServersUnavailable when there is none, or when the environment names one server of the two that are wanted.
    """
    if facts.database_url and (facts.amqp_url or not with_rabbitmq):
        return (Origin.ENVIRONMENT,)
    if with_rabbitmq and (facts.database_url or facts.amqp_url):
        missing = "AMQP_URL" if facts.database_url else "DATABASE_URL"
        raise ServersUnavailable(f"Set {missing} too, or unset both DATABASE_URL and AMQP_URL for private servers.")
    found = [Origin.DOCKER] if facts.docker else []
    if facts.postgres and (facts.rabbitmq or not with_rabbitmq):
        found.append(Origin.PRIVATE)
    elif facts.apt:
        found.append(Origin.PRIVATE_AFTER_INSTALL)
    if not found:
        raise ServersUnavailable(_what_to_install(facts) if with_rabbitmq else INSTALL_POSTGRES)
    return tuple(found)


def _what_to_install(facts: Facts) -> str:
    programs = {"PostgreSQL": facts.postgres, "RabbitMQ": facts.rabbitmq}
    missing = " and ".join(name for name, is_found in programs.items() if not is_found)
    return (
        f"Install {missing} (Debian: apt-get install postgresql rabbitmq-server), start Docker, "
        "or set DATABASE_URL and AMQP_URL."
    )
