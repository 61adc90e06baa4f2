"""What a run did, line by line: the same seed leaves the same trace."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field

import orjson


@dataclass(slots=True)
class Trace:
    """The lines of a run, and a digest of them and of everything else that it left."""

    lines: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)

    @property
    def digest(self) -> str:
        """Of everything so far, in hexadecimal."""
        return self._digest.hexdigest()

    def add(self, line: str) -> None:
        """A line that people read."""
        self.lines.append(line)
        self._digest.update(line.encode())

    def fold_in(self, value: object) -> None:
        """Something that only has to be the same."""
        self._digest.update(orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS))
