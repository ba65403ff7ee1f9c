"""One round of a tiny model in this process: its bank writes, tries and answers, and its update is the product's."""

from pathlib import Path
from typing import Any

import one_process_crew
import pytest

from seal_ray.config import Config
from seal_ray.loops import rounds
from seal_ray.loops.history import Round, Run
from seal_ray.loops.session import Session

SMALL: dict[str, dict[str, Any]] = {
    "run": {"rounds": 1, "tasks_per_round": 2},
    "model": {"name": "builtin:tiny", "dtype": "float32", "max_length": 512},
    "sampling": {"edits": 2, "max_tokens": 16, "top_p": 1},
    "inner": {"rank": 2, "epochs": 1, "repeats": 1, "max_length": 512, "context_arm": False},
    "grading": {"reward": "likelihood"},
    "select": {"rule": "threshold", "threshold": -100.0},  # a random model's edits need not help
    "policy": {"rank": 2, "global_batch": 2, "epochs": 1, "checkpointing": False, "dtype": "float32"},
    "observe": {"progress": "quiet", "ray_metrics": False},
}


def one_process_round(uri: Path, monkeypatch: pytest.MonkeyPatch, **sections: dict[str, Any]) -> Round:
    """The committed round; `sections` say what is set besides, section by section."""
    settings = {name: SMALL.get(name, {}) | sections.get(name, {}) for name in {*SMALL, *sections}}
    settings["run"] = settings["run"] | {"uri": str(uri)}
    monkeypatch.setattr(rounds, "update", one_process_crew.update)
    hire: Any = one_process_crew.OneProcessCrew().hire
    with Session(Config.model_validate(settings), hire=hire) as session:
        rounds.run_rounds(session)
    done = Run(str(uri))
    assert done.latest == 1
    return done.round(1)
