"""Whole runs with a made-up crew, over passages about towns: what a loop does with what it is given, in a second."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_crew import MadeCrew

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.loops import rounds
from seal_ray.loops.history import Run
from seal_ray.loops.rounds import run_rounds
from seal_ray.loops.session import Session

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "tests/recorded/v0.1.0"
VERSION = next(p for p in (RECORDED / "run/rounds/0001/version").iterdir() if p.is_dir())


def towns(path: Path, count: int = 12) -> Path:
    """A file of passages."""
    rows = [
        {
            "title": f"Town {n}",
            "context": f"Town {n} has a harbour that was built in {1800 + n}.",
            "questions": [{"question": "When was the harbour built?", "answer": str(1800 + n)}],
        }
        for n in range(count)
    ]
    path.write_text(json.dumps(rows))
    return path


def configured(data: Path, uri: Path, **changes: Any) -> Config:
    own = {
        "run.uri": uri, "run.rounds": 3, "domain.data": data, "domain.test": 0.4, "domain.validation": 0.2,
        "evaluation.every": 1, "evaluation.tasks": 3, "observe.progress": "quiet", "observe.ray_metrics": "false",
        "storage.stop_within": 100,
    }  # fmt: skip
    return config_file.load(RECORDED / "job.yaml", [f"{k}={v}" for k, v in {**own, **changes}.items()])


def go(
    config: Config, monkeypatch: pytest.MonkeyPatch, *, break_after: int = -1, crew: type[MadeCrew] = MadeCrew
) -> tuple[Run, MadeCrew, list[Any]]:
    made, heard = crew(VERSION), list[Any]()
    made.break_after = break_after
    monkeypatch.setattr(rounds, "update", made.update)
    with Session(config, hire=lambda *_: made, listeners=[heard.append]) as session:  # type: ignore[arg-type]
        run_rounds(session)
    return Run(config.run.uri), made, heard
