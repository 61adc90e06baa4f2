from bursar.billing.errors import BursarError


class ServersUnavailable(BursarError):
    """PostgreSQL or RabbitMQ cannot be had here. The message is one sentence that says what to do."""


class InstanceInUse(ServersUnavailable):
    """Another process runs the private servers of this name."""
