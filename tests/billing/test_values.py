"""What makes a value one."""

import subprocess
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path

import pytest

from bursar.billing.values import Value, as_dict, replace
from tests.billing.kiloclaw.making import NOW

CHANGES_A_VALUE = """
from bursar.billing.kiloclaw.rows import MailKey

key = MailKey("a", cycle="b")
key.cycle = "c"
"""


class Price(Value, kw_only=True):
    cents: int
    currency: str = "usd"


class Kind(StrEnum):
    WEEKLY = "weekly"


class Basket(Value):
    prices: tuple[Price, ...]
    kind: Kind
    filled_at: datetime


def test_values_are_equal_and_hashed_by_their_fields_and_replaced_as_a_whole() -> None:
    one = Price(cents=900)
    assert one == Price(cents=900)
    assert hash(one) == hash(Price(cents=900))
    assert replace(one, cents=100) == Price(cents=100)
    assert one.cents == 900


@pytest.mark.parametrize("name", ["cents", "tax"])
def test_nobody_sets_a_field_of_a_value_or_gives_it_another(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(Price(cents=900), name, 1)


def test_a_value_is_told_by_its_fields_and_those_of_the_values_in_it() -> None:
    basket = Basket(prices=(Price(cents=900),), kind=Kind.WEEKLY, filled_at=NOW)
    told = {"prices": ({"cents": 900, "currency": "usd"},), "kind": "weekly", "filled_at": NOW}
    assert as_dict(basket) == told


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
