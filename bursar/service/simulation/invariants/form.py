"""What an invariant is, and what it is when one does not hold."""

from collections.abc import Callable, Iterator

from bursar.billing.values import Value
from bursar.service.simulation.truth import Truth


class Broken(Exception):
    """An invariant does not hold."""

    def __init__(self, rule: str, sentence: str, found: str) -> None:
        super().__init__(rule, sentence, found)
        self.rule, self.sentence, self.found = rule, sentence, found

    def __str__(self) -> str:
        return f"{self.rule}: {self.sentence}. Found: {self.found}"


class Invariant(Value):
    """`problems` yields what contradicts the sentence."""

    rule: str
    sentence: str
    problems: Callable[[Truth], Iterator[str]]
