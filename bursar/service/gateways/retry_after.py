"""The other side's wish for when to call again."""

MAX_RETRY_AFTER_SECONDS = 3_600.0  # a server's mistake must not put a step off for days


def retry_after_seconds(header: str | None) -> float | None:
    """Read a `Retry-After` header in its seconds form, bounded; anything else (a date, too) leaves our own backoff."""
    if header is None or not header.strip().isascii() or not header.strip().isdigit():
        return None
    return min(float(header), MAX_RETRY_AFTER_SECONDS)
