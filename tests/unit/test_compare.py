"""Runs side by side."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from recorded_run import record
from typer.testing import CliRunner

from seal_ray.cli import app
from seal_ray.commands.compare import compare, differing, show
from seal_ray.commands.compare_page import write
from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run
from seal_ray.storage.ledger import Ledger


@pytest.fixture(scope="module")
def uris(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    uris = [str(folder / name) for name in ("short", "long")]
    record(uris[0], rounds=1, tasks=3, edits=2)
    record(uris[1], rounds=2, tasks=3, edits=3)
    return uris


def test_each_runs_figures_stand_in_its_row_and_a_round_that_one_lacks_is_left_open(uris: list[str]) -> None:
    runs = [Run(uri) for uri in uris]
    shown = show(compare(runs))
    lines = shown.splitlines()
    start = next(n for n, line in enumerate(lines) if line == "mean edit, likelihood")
    own = runs[0].table()[0]["arms"]["edit"]["likelihood"]
    assert f"{own['mean']:.3f} ±{own['error']:.3f}" in lines[start + 2]
    assert lines[start + 1].split() == ["round", "1", "round", "2"]
    assert lines[start + 2].rstrip().endswith("-") and not lines[start + 3].rstrip().endswith("-")


def test_settings_that_differ_are_named_with_each_runs_value(uris: list[str]) -> None:
    told = differing([{"run": {"uri": "a", "seed": 1}, "x": [1]}, {"run": {"uri": "b", "seed": 2}, "x": [1]}])
    assert told == {"run.seed": [1, 2]}
    compared = compare([Run(uri) for uri in uris])
    assert all(len(set(map(str, values))) > 1 for values in compared["differ"].values())
    assert "run.uri" not in compared["differ"]


def test_a_setting_that_an_older_version_did_not_record_is_no_difference(tmp_path: Path) -> None:
    def begun(name: str, **changes: Any) -> Run:
        config = Config().model_dump(mode="json")
        for section, keys in changes.items():
            for key, value in keys.items():
                if value is None:
                    del config[section][key]
                else:
                    config[section][key] = value
        Ledger(str(tmp_path / name)).create(config, {}, 1)
        return Run(str(tmp_path / name))

    new, rank = begun("new"), begun("rank", inner={"rank": 5}, select={"control": None})
    old = begun("old", inner={"objective": None}, evaluation={"every": None}, storage={"retries": 8})
    assert compare([old, new])["differ"] == {}
    assert compare([old, rank, new])["differ"] == {"inner.rank": [Config().inner.rank, 5, Config().inner.rank]}
    strange = begun("strange", inner={"never_heard_of": 3})
    assert compare([strange, new])["differ"] == {"inner.never_heard_of": [3, None]}


def test_the_command_prints_a_table_or_json_and_wants_two_runs(uris: list[str]) -> None:
    done = CliRunner().invoke(app, ["compare", *uris])
    assert done.exit_code == 0 and "settings that differ" in done.output
    done = CliRunner().invoke(app, ["compare", *uris, "--json"])
    assert [run["uri"] for run in json.loads(done.stdout)["runs"]] == uris
    with pytest.raises(ConfigError, match="two runs"):
        compare([Run(uris[0])])


def test_a_page_shows_what_the_table_does_and_whatever_is_in_it_is_text(
    uris: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = CliRunner().invoke(app, ["compare", *uris, "--to", str(tmp_path / "page.html")])
    assert done.exit_code == 0
    page = (tmp_path / "page.html").read_text()
    assert "mean edit, likelihood" in page and "None of them was tried on held-out tasks" in page
    hostile = compare([Run(uri) for uri in uris])
    hostile["differ"] = {"x": ["<script>1</script>", "<b>"]}
    hostile["runs"][0] |= {"uri": "<script>alert(1)</script>"}
    write(hostile, tmp_path / "hostile.html")
    assert "<script" not in (tmp_path / "hostile.html").read_text()
    with pytest.raises(ConfigError, match="can't be written"):
        write(hostile, tmp_path / "page.html" / "below.html")


def test_a_run_that_is_not_there_is_named(uris: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", uris[0], str(tmp_path / "none")])
    assert isinstance(done.exception, ConfigError) and "none" in str(done.exception)


def test_a_curve_is_drawn_over_the_rounds_that_it_was_looked_at_after(tmp_path: Path) -> None:
    def run(*rounds: int) -> dict[str, Any]:
        looks = [
            {"after": n, "gain": None, "arms": {"edit": {"accuracy": {"mean": n / 10, "error": 0.0}}}} for n in rounds
        ]
        return {"uri": "run", "rounds": [], "curve": looks, "stream": None}

    write({"runs": [run(0, 5, 10), run(0, 10)], "differ": {}}, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    lines = [points.split() for points in re.findall(r'<polyline points="([^"]+)"', page)]
    long, short = (next(line for line in lines if len(line) == n) for n in (3, 2))
    assert (short[0], short[-1]) == (long[0], long[-1]), "both were looked at after the rounds 0 and 10"
    assert re.findall(r'text-anchor="middle">(\d+)</text>', page) == ["0", "5", "10"]
