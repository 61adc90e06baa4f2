"""Takes out of a log line what must never be in one: secrets, tokens, cards, addresses (MS-14). Pure."""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

REDACTED = "[redacted]"
MAX_DEPTH = 6
MAX_CHARACTERS = 2_000  # of one value, after redaction
MAX_READ_CHARACTERS = 20_000  # of one value, before it
MAX_ENTRIES = 100  # of one list or table
INTEGER_BOUND = 2**63  # what JSON readers take

_SENSITIVE_NAME = re.compile(
    r"secret|token|authorization|passw|email|e_mail|recipient|cookie|credential|signature|api_?key|card_?number|cvc",
    re.IGNORECASE,
)
_SENSITIVE_TEXT = re.compile(
    r"""
      (?P<login>://[^/\s@]{1,512}@)                       # user and password in an address
    | (?P<bearer>\b(?:bearer|basic)\s+[^\s,;"']+)
    | (?:sk|rk)_(?:live|test)_\w+ | whsec_\w+             # Stripe's keys
    | (?<![A-Za-z0-9])(?:sk|rk)_\w+
    | \w{1,64}_secret_\w+                                 # Stripe's client secrets
    | [^\s@<>",;:()\[\]]{1,64}@[^\s@<>"',;:()\[\]{}=]+   # e-mail addresses
    """,
    re.IGNORECASE | re.VERBOSE,
)
_CARD_LIKE = re.compile(r"(?<![0-9A-Za-z_.])[0-9](?:[ -]?[0-9]){12,18}(?![0-9A-Za-z_])")
_CARD_DIGITS = range(13, 20)


def redact_fields(fields: Mapping[Any, Any], depth: int = 0) -> dict[str, Any]:
    """The same table, with what looks like a secret by its name or its content replaced by `[redacted]`."""
    kept = list(fields.items())[:MAX_ENTRIES]
    return {
        redact_text(str(name)): REDACTED if _SENSITIVE_NAME.search(str(name)) else redact(value, depth + 1)
        for name, value in kept
    }


def redact(value: object, depth: int = 0) -> Any:  # noqa: ANN401 - the same shape as the value, as JSON can hold it
    """The value as a log line may hold it. What is nested too deeply, or binary, is left out."""
    if depth > MAX_DEPTH or isinstance(value, bytes | bytearray | memoryview):
        return REDACTED
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return REDACTED if _is_card(str(value)) else value if abs(value) < INTEGER_BOUND else str(value)
    if isinstance(value, Mapping):
        return redact_fields(value, depth)
    if isinstance(value, Sequence | AbstractSet) and not isinstance(value, str):
        return [redact(one, depth + 1) for one in list(value)[:MAX_ENTRIES]]
    return redact_text(str(value))


def redact_text(text: str) -> str:
    """The text with secrets, addresses and card numbers replaced, cut to 2,000 characters."""
    hidden = _SENSITIVE_TEXT.sub(_replacement, text[:MAX_READ_CHARACTERS])
    hidden = _CARD_LIKE.sub(lambda found: REDACTED if _is_card(found.group()) else found.group(), hidden)
    return hidden[:MAX_CHARACTERS].encode("utf-8", "replace").decode()


def _replacement(found: re.Match[str]) -> str:
    if found["login"]:
        return f"://{REDACTED}@"
    if found["bearer"]:
        return f"{found['bearer'].split()[0]} {REDACTED}"
    return REDACTED


def _is_card(text: str) -> bool:
    """Whether the digits are as many as a card's and pass Luhn's check."""
    digits = [int(char) for char in text if char.isdecimal()]
    if len(digits) not in _CARD_DIGITS:
        return False
    doubled = [sum(divmod(2 * digit, 10)) if odd % 2 else digit for odd, digit in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0
