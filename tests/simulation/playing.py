"""Running `bursar simulate` as people do, from the code of any folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 900
COMMAND = (sys.executable, "-m", "bursar.service.cli", "simulate", "--json", "--no-shrink")


def environment(database_url: str, folder: Path = ROOT) -> dict[str, str]:
    """Of a process on that server, with the code below `folder`."""
    return {**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "random"}


def simulated(database_url: str, *options: str, folder: Path = ROOT) -> dict[str, Any]:
    """What it prints as JSON; the code below `folder` is what runs."""
    done = subprocess.run(
        [*COMMAND, *options],
        cwd=folder,
        env=environment(database_url, folder),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    assert done.stdout, done.stderr[-2_000:]
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
