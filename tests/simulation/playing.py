"""Running `bursar simulate` as people do, from the code of any folder."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 900


def simulated(database_url: str, *options: str, folder: Path = ROOT) -> dict[str, Any]:
    """What it prints as JSON; the code below `folder` is what runs."""
    environment = {**os.environ, "DATABASE_URL": database_url, "PYTHONPATH": str(folder), "PYTHONHASHSEED": "random"}
    command = [sys.executable, "-m", "bursar.service.cli", "simulate", "--json", "--no-shrink", *options]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
    )
    assert done.stdout, done.stderr[-2_000:]
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed
