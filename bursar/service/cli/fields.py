"""How options of several commands are read."""

from datetime import UTC, datetime

import typer


def instant(text: str) -> datetime:
    """An instant in ISO 8601, UTC where it has no offset."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("an instant is written like 2026-07-01T00:00:00Z") from None
    return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
