"""The verdict: what was found against what must be true. Every fault is a sentence."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import httpx

from bursar.billing.values import Value
from bursar.service.demo.expectations import RowView, expected_mails, expected_operations

Mail = Mapping[str, str]  # type, user, message_id


class Verdict(Value):
    """Empty `faults` is a pass; `rows` is how many rows were compared."""

    rows: int
    faults: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        return 1 if self.faults else 0

    @property
    def sentence(self) -> str:
        if self.faults:
            return f"{len(self.faults)} faults in {self.rows} rows"
        return f"all {self.rows} rows equal Stripe's; no mail twice; nothing parked; nothing lost"


def row_faults(expected: Mapping[str, RowView], found: Mapping[str, RowView], when: str) -> list[str]:
    """Rows that are missing, that should not be, or that differ, with the field."""
    faults = [f"{user}: no row {when}" for user in sorted(expected.keys() - found.keys())]
    faults += [f"{user}: a row {when}, and none is due" for user in sorted(found.keys() - expected.keys())]
    for user in sorted(expected.keys() & found.keys()):
        faults += _differences(expected[user], found[user], when)
    return faults


def _differences(expected: RowView, found: RowView, when: str) -> list[str]:
    pairs = [(name, getattr(expected, name), getattr(found, name)) for name in RowView.__struct_fields__]
    return [f"{found.user_id}: {name} is {is_} {when}, not {should}" for name, should, is_ in pairs if should != is_]


def mail_faults(expected: Mapping[str, RowView], mails: Iterable[Mail]) -> list[str]:
    """Mails that came twice (KC-86), came unasked, or did not come (KC-87). `expected` as right after the replay."""
    came = Counter((mail["user"], mail["type"]) for mail in mails)
    due = {(user, mail_type) for user, row in expected.items() for mail_type in expected_mails(row)}
    faults = [
        f"{user}: {mail_type} came {count} times" for (user, mail_type), count in sorted(came.items()) if count > 1
    ]
    faults += [f"{user}: {mail_type} came and is not due" for user, mail_type in sorted(came.keys() - due)]
    faults += [f"{user}: {mail_type} did not come" for user, mail_type in sorted(due - came.keys())]
    return faults


def instance_faults(expected: Mapping[str, RowView], instances: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Instances that were not brought where they belong. A repeated call is no fault: it carries its generation."""
    faults = []
    for user, row in sorted(expected.items()):
        done = instances.get(instance_of(user), {}).get("done", ())
        if list(dict.fromkeys(done)) != list(expected_operations(row)):
            faults.append(f"{user}: the instance saw {', '.join(done) or 'nothing'}")
    return faults


def instance_of(user_id: str) -> str:
    """The id of the instance that the demo provisions for a user."""
    return f"instance-{user_id}"


def message_faults(
    must_be_handled: set[str], handled: set[str], parked: Mapping[str, int], open_steps: Mapping[str, int]
) -> list[str]:
    """Messages that are lost or parked, and steps that are not done."""
    lost = must_be_handled - handled
    faults = [f"{len(lost)} events are lost, for example {min(lost)}"] if lost else []
    faults += [f"{count} messages are {state}" for state, count in sorted(parked.items()) if count]
    faults += [f"{count} steps are {state}" for state, count in sorted(open_steps.items()) if count]
    return faults


def delivery_faults(answers: Mapping[int, int], undelivered: int) -> list[str]:
    """Webhooks that the relay refused, or that never arrived."""
    faults = [
        f"{count} webhooks were answered {status}"
        for status, count in sorted(answers.items())
        if not httpx.codes.is_success(status) and status != HTTPStatus.SERVICE_UNAVAILABLE
    ]
    return faults + ([f"{undelivered} webhooks were not delivered"] if undelivered else [])


def judge(rows: int, *faults: Sequence[str]) -> Verdict:
    return Verdict(rows, tuple(fault for each in faults for fault in each))
