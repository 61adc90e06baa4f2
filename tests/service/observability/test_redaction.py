"""MS-14: no secret, token, card or address in a log line. As properties, over whatever surrounds them."""

import json

from hypothesis import given
from hypothesis import strategies as st

from bursar.service.observability.redaction import MAX_CHARACTERS, REDACTED, redact, redact_fields, redact_text

WORDS = st.text(st.characters(codec="utf-8", categories=("Lu", "Ll", "Zs")), max_size=7)
KEY_TAILS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=8, max_size=40)
KEY_HEADS = st.sampled_from(["sk_live_", "sk_test_", "rk_live_", "rk_test_", "whsec_", "sk_"])
NAMES = [
    "client_secret",
    "access_token",
    "Authorization",
    "password",
    "email",
    "customer_email",
    "Set-Cookie",
    "api_key",
]


def luhn_complete(digits: str) -> str:
    total = sum(sum(divmod(2 * int(d), 10)) if odd % 2 == 0 else int(d) for odd, d in enumerate(reversed(digits)))
    return digits + str(-total % 10)


CARDS = st.text("0123456789", min_size=12, max_size=18).map(luhn_complete)


@given(WORDS, KEY_HEADS, KEY_TAILS, WORDS)
def test_ms_14_a_key_in_any_text_is_redacted(before: str, head: str, tail: str, after: str) -> None:
    assert tail not in redact_text(f"{before} {head}{tail} {after}")


@given(WORDS, st.emails(), WORDS)
def test_ms_14_an_address_in_any_text_is_redacted(before: str, address: str, after: str) -> None:
    assert address not in redact_text(f"{before} {address} {after}")


@given(WORDS, CARDS, st.sampled_from(["", " ", "-"]), WORDS)
def test_ms_14_a_card_number_in_any_text_is_redacted(before: str, card: str, between: str, after: str) -> None:
    written = between.join(card[start : start + 4] for start in range(0, len(card), 4))
    assert written not in redact_text(f"{before}: {written}, {after}")


@given(KEY_TAILS, st.sampled_from(["Bearer", "bearer", "Basic", "AUTHORIZATION: BEARER"]))
def test_ms_14_a_bearer_is_redacted(token: str, scheme: str) -> None:
    assert token not in redact_text(f"{scheme} {token}").removeprefix(scheme)


@given(
    st.sampled_from(NAMES), st.recursive(KEY_TAILS, lambda inner: st.lists(inner) | st.dictionaries(KEY_TAILS, inner))
)
def test_ms_14_what_a_sensitive_name_holds_is_redacted_whole(name: str, value: object) -> None:
    assert redact_fields({"request": {name: value}}) == {"request": {name: REDACTED}}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.sets(st.text()),
    max_leaves=30,
)


@given(JSON)
def test_anything_becomes_what_json_can_hold(value: object) -> None:
    json.dumps(redact(value))


def test_a_login_in_an_address_is_redacted() -> None:
    assert redact_text("amqp://bursar:pass@host/v") == f"amqp://{REDACTED}@host/v"


def test_what_is_needed_to_find_a_message_stays() -> None:
    line = {
        "event": "task_runner took 12 messages",
        "message_id": "evt_1SkQx9Cz4242424242424242",
        "account": "user:u-17",
        "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
        "amount_microdollars": 25_000_000,
        "at": "2026-07-01T00:00:00+00:00",
    }
    assert redact_fields(line) == line


def test_long_text_is_cut() -> None:
    assert len(redact_text("word " * 100_000)) == MAX_CHARACTERS


def test_nesting_is_bounded() -> None:
    nested: list[object] = []
    nested.append(nested)
    assert REDACTED in json.dumps(redact(nested))
