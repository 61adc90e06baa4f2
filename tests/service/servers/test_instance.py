import os
import stat
from pathlib import Path

import pytest

from bursar.service.servers.errors import InstanceInUse
from bursar.service.servers.instance import locked_instance
from bursar.service.servers.machine import Owner


def silent(_sentence: str) -> None:
    pass


def test_two_callers_at_once_get_a_folder_each(tmp_path: Path) -> None:
    with (
        locked_instance(tmp_path, "test", durable=False, owner=None, progress=silent) as first,
        locked_instance(tmp_path, "test", durable=False, owner=None, progress=silent) as second,
    ):
        assert (first.folder.name, second.folder.name) == ("test", "test-2")
    with locked_instance(tmp_path, "test", durable=False, owner=None, progress=silent) as third:
        assert third.folder.name == "test"


def test_a_durable_instance_has_one_caller_at_a_time(tmp_path: Path) -> None:
    with (
        locked_instance(tmp_path, "up", durable=True, owner=None, progress=silent),
        pytest.raises(InstanceInUse, match="in use by another process"),
        locked_instance(tmp_path, "up", durable=True, owner=None, progress=silent),
    ):
        pytest.fail("both hold it")


def test_secrets_are_random_kept_and_readable_by_their_owner_alone(tmp_path: Path) -> None:
    with locked_instance(tmp_path, "up", durable=True, owner=None, progress=silent) as instance:
        secret = instance.secret("password")
        assert len(secret) >= 32
        assert instance.secret("password") == secret
        assert instance.secret("cookie") != secret
        assert stat.S_IMODE((instance.folder / "password.secret").stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the servers as another user")
def test_a_checkout_that_the_servers_user_cannot_enter_gets_a_folder_elsewhere(tmp_path: Path) -> None:
    closed = tmp_path / "home"
    closed.mkdir(mode=0o700)
    said: list[str] = []
    elsewhere = tmp_path / "state"
    with locked_instance(
        closed, "test", durable=False, owner=Owner(65534, 65534), progress=said.append, system_state=elsewhere
    ) as instance:
        assert instance.folder.is_relative_to(elsewhere)
    assert len(said) == 1
    assert str(closed) in said[0]
