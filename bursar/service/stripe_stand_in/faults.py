"""What may go wrong between a caller and Stripe, on demand."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """`BEFORE` and `AFTER` mean the call's effect."""

    TIMEOUT_BEFORE = "timeout_before"  # the connection closes without an answer; nothing happened
    TIMEOUT_AFTER = "timeout_after"  # likewise, but it happened
    RATE_LIMITED = "rate_limited"  # 429 with Retry-After
    ERROR_BEFORE = "error_before"  # 500, remembered for the key
    ERROR_AFTER = "error_after"  # 500, remembered for the key, though it happened
    LOCK_TIMEOUT = "lock_timeout"  # 409, not remembered
    DECLINED = "declined"  # whatever the card, its payments are declined
    CHALLENGE = "challenge"  # likewise, they want 3-D Secure
    HELD = "held"  # it happened, and the answer waits for `let_go`


@dataclass(slots=True)
class Planned:
    call: str
    fault: Fault
    skip: int
    times: int


@dataclass(slots=True)
class Faults:
    """The faults that are still to come. A call is named as in `routes.HANDLERS`, or with the id itself in its path."""

    planned: list[Planned] = field(default_factory=list)
    holding: asyncio.Event = field(default_factory=asyncio.Event)  # set while an answer is held
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def next(self, call: str, fault: Fault, *, times: int = 1, skip: int = 0) -> None:
        """The next call of this name meets this fault, after `skip` that do not; so do `times` of them."""
        self.planned.append(Planned(call, fault, skip, times))

    def let_go(self) -> None:
        """Give the answers that are held."""
        self._released.set()

    async def hold(self) -> None:
        """Wait for `let_go`."""
        self._released.clear()
        self.holding.set()
        await self._released.wait()
        self.holding.clear()

    def take(self, *names: str) -> Fault | None:
        """The fault that a call of one of these names meets now."""
        for one in self.planned:
            if one.call not in names:
                continue
            if one.skip:
                one.skip -= 1
                continue
            one.times -= 1
            if one.times <= 0:
                self.planned.remove(one)
            return one.fault
        return None
