import shutil
from pathlib import Path

import pytest

from tests.simulation.planted import BUGS, Bug
from tests.simulation.playing import ROOT, TIMEOUT_SECONDS, simulated


@pytest.mark.planted
@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_noticed(bug: Bug, database_url: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bursar", tmp_path / "bursar", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    file = tmp_path / "bursar" / bug.file
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(bug.found, bug.planted), encoding="utf-8")

    told = simulated(database_url, "--seeds", str(bug.seeds), folder=tmp_path)

    assert told["failure"], f"nothing was noticed in {told['seeds']} seeds"
    assert told["failure"]["rule"]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_what_a_planted_bug_replaces_stands_in_the_code_once(bug: Bug) -> None:
    assert (ROOT / "bursar" / bug.file).read_text(encoding="utf-8").count(bug.found) == 1


def test_at_least_twenty_bugs_are_planted() -> None:
    assert len(BUGS) >= 20
