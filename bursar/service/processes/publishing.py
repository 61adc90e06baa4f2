"""Keeps a process's publisher connected: an idle one would notice the broker's return with its next message only."""

import asyncio
from contextlib import suppress

import structlog

from bursar.billing.errors import Retryable
from bursar.service.broker.publisher import MessagePublisher
from bursar.service.processes.supervision import wait_or_stop
from bursar.service.web.health import Check

log = structlog.get_logger()

LOOK_SECONDS = 1.0


class PublisherKeeper:
    """Looks every second, and connects again where the connection is gone."""

    def __init__(self, publisher: MessagePublisher) -> None:
        self._publisher = publisher
        self._is_lost = False

    async def run(self, stop: asyncio.Event) -> None:
        """Keep it connected until `stop`."""
        while not stop.is_set():
            if not self._publisher.is_connected:
                await self._connect()
            await wait_or_stop(stop, LOOK_SECONDS)

    async def _connect(self) -> None:
        if not self._is_lost:
            self._is_lost = True
            log.warning("publisher lost the broker")
        with suppress(Retryable):
            await self._publisher.connect()
            self._is_lost = False
            log.info("publisher is connected")

    def check(self) -> Check:
        """The broker, for readiness."""
        is_connected = self._publisher.is_connected
        return Check("broker", ok=is_connected, detail="" if is_connected else "the publisher is not connected")
