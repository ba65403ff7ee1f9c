"""The folder of this node in which processes keep what any of them can make or fetch again."""

import os
from pathlib import Path

ROOT = "SEAL_RAY_CACHE"  # in the environment: the folder on this node, where the configuration names none


def default_root() -> Path:
    if named := os.environ.get(ROOT):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "seal-ray"
