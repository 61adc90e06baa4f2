"""What previews and test mails say: a made-up user's name and instants (KC-89)."""

from datetime import UTC, datetime

from bursar.service.mail.render import MailContext

SAMPLE_APP_URL = "https://app.example.com"


def sample_context(app_url: str) -> MailContext:
    """A context with everything that any mail may say, so that a preview shows every sentence."""
    return MailContext(
        app_url=app_url,
        name="Ada Example",
        trial_ends_at=datetime(2026, 7, 1, 14, 5, tzinfo=UTC),
        current_period_end=datetime(2026, 7, 1, 14, 5, tzinfo=UTC),
        past_due_since=datetime(2026, 6, 16, 8, 30, tzinfo=UTC),
        destruction_deadline=datetime(2026, 7, 8, 14, 5, tzinfo=UTC),
        earlybird_ends_at=datetime(2026, 9, 26, 0, 0, tzinfo=UTC),
    )
