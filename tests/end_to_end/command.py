"""Running the command line as a person would."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
COMMAND = str(Path(sys.executable).parent / "seal-ray")
OF_ANY_CLUSTER = "RAY_worker_niceness"  # of what Ray is told from outside: `make test-all` says it to all clusters


def environment() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"OMP_NUM_THREADS": "1"}


def seal_ray(*words: str, within: float | None = None, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [COMMAND, *words], cwd=ROOT, capture_output=True, text=True, timeout=within, env=environment(), check=False
    )
    assert done.returncode == expect, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
