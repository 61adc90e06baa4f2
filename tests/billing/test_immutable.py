"""What makes a value one."""

import subprocess
import sys
from pathlib import Path

import pytest

from bursar.billing.values import Value, replace

CHANGES_A_VALUE = """
from bursar.billing.kiloclaw.rows import MailKey

key = MailKey("a", cycle="b")
key.cycle = "c"
"""


class Price(Value, kw_only=True):
    cents: int
    currency: str = "usd"


def test_values_are_equal_and_hashed_by_their_fields_and_replaced_as_a_whole() -> None:
    one = Price(cents=900)
    assert one == Price(cents=900)
    assert hash(one) == hash(Price(cents=900))
    assert replace(one, cents=100) == Price(cents=100)
    assert one.cents == 900


def test_a_value_has_its_fields_and_no_others() -> None:
    with pytest.raises(AttributeError):
        Price(cents=900).tax = 1  # type: ignore[attr-defined]


def test_the_type_checker_refuses_to_change_a_value(tmp_path: Path) -> None:
    (tmp_path / "changing.py").write_text(CHANGES_A_VALUE, encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--no-incremental",
        "--follow-imports=silent",
        str(tmp_path / "changing.py"),
    ]
    checked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert 'Property "cycle" defined in "MailKey" is read-only' in checked.stdout
    assert "Found 1 error" in checked.stdout
