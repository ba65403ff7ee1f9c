"""A round's time as a picture in text."""

from pathlib import Path
from typing import Any

import pytest
import round_picture
from recorded_run import record


def span(phase: str, start: float, end: float, number: int = 2) -> dict[str, Any]:
    return {"round": number, "phase": phase, "from": start, "to": end}


def test_phases_and_waves_stand_where_they_were() -> None:
    worker = {"name": "worker-1", "blocks": [{"at": 100, "seconds": 4}, {"at": 104, "seconds": 2}]}
    before = {"name": "worker-0", "blocks": [{"at": 50, "seconds": 4}]}
    spans = [
        span("sampling", 40, 60, 1),
        span("sampling", 100, 105),
        span("trials", 100, 108),
        span("update", 108, 110),
    ]
    lines = round_picture.picture({"spans": spans, "actors": [before, worker]}, 2, 10).splitlines()
    assert lines == [
        "sampling  █████         5 s",
        "trials    ████████      8 s",
        "update            ██    2 s",
        "worker-1  ████▏█        6 s",
        "          0        10 s",
    ]


def test_it_is_drawn_of_a_recorded_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record(str(tmp_path / "run"), rounds=1, tasks=2, edits=2)
    round_picture.main([str(tmp_path / "run"), "--width", "30"])
    assert "trials" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="no times of round 2"):
        round_picture.main([str(tmp_path / "run"), "--round", "2"])
