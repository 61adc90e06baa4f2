import pytest

from bursar.service.gateways.retry_after import MAX_RETRY_AFTER_SECONDS, retry_after_seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("0", 0.0),
        ("999999999", MAX_RETRY_AFTER_SECONDS),
        (None, None),
        ("", None),
        ("-5", None),
        ("1.5", None),
        ("²", None),
        ("Wed, 01 Jul 2026 14:00:00 GMT", None),
    ],
)
def test_ms_11_retry_after_is_read_in_seconds_and_bounded(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header) == seconds
