"""Stripe's signature on the raw body of a webhook (MS-1)."""

from collections.abc import Iterable

import stripe
from pydantic import SecretStr

TOLERANCE_SECONDS = 300


def is_signed(body: bytes, header: str | None, secrets: Iterable[SecretStr]) -> bool:
    """Whether one of the live secrets signed these bytes within the tolerance; compared in constant time."""
    if header is None or not header.isascii():
        return False
    return any(_is_signed_with(body, header, secret.get_secret_value()) for secret in secrets)


def _is_signed_with(body: bytes, header: str, secret: str) -> bool:
    try:
        stripe.WebhookSignature.verify_header(body, header, secret, TOLERANCE_SECONDS)
    except (stripe.SignatureVerificationError, UnicodeDecodeError):
        return False
    return True
