"""Learning curves of the tiny worlds: which runs are made, and what is read and drawn from their ledgers."""

import importlib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from made_runs import configured, towns
from recorded_run import record

from seal_ray import config_file
from seal_ray.errors import ConfigError
from seal_ray.loops.history import Run

JOBS = Path(__file__).parents[2] / "jobs"


@pytest.fixture
def curves() -> ModuleType:
    return importlib.import_module("learning_curves")


def test_every_arm_of_every_world_is_a_configuration_that_holds(curves: ModuleType) -> None:
    for world in curves.WORLDS.values():
        for changes in curves.ARMS.values():
            config = config_file.load(JOBS / world.job, [*world.changes, *changes])
            assert 0 < config.evaluation.every <= config.run.rounds


def test_runs_go_seed_by_seed_and_whole_ones_are_passed_over(
    curves: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done: list[str] = []

    class NoSession:
        def __init__(self, config: Any, **_: Any) -> None:
            done.append(f"{Path(config.run.uri).name} {config.select.control}")

        __enter__ = __exit__ = lambda *_: None

    monkeypatch.setattr(curves, "Session", NoSession)
    monkeypatch.setattr(curves.rounds, "run_rounds", lambda session: None)
    monkeypatch.setattr(curves.rounds, "update", None)
    record(str(tmp_path / "knowledge/learning-2"), rounds=1)
    assert curves.run(tmp_path, "knowledge", ["learning", "shuffled"], [1, 2], ["run.rounds=1"], 0)
    assert done == ["learning-1 none", "shuffled-1 shuffled", "shuffled-2 shuffled"]


def test_a_run_in_one_process_is_a_whole_run_and_comes_out_the_same_again(
    curves: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(curves.rounds, "update", curves.update)
    crew, data = curves.OneProcessCrew(), towns(tmp_path / "towns.json")
    small = {"run.rounds": 1, "sampling.top_p": 1, "evaluation.tasks": 2, "inner.epochs": 1, "inner.repeats": 1}

    def done(name: str, **changes: Any) -> Run:
        config = configured(data, tmp_path / name, **{**small, **changes})
        with curves.Session(config, hire=crew.hire) as session:
            curves.rounds.run_rounds(session)
        return Run(config.run.uri)

    one, other = done("one"), done("other")
    found, again = one.round(1), other.round(1)
    assert found.committed and (found.update or {})["version"] and [p["version"] for p in one.curve()] == [0, 1]
    assert {e.id: e.text for e in found.edits} == {e.id: e.text for e in again.edits}
    assert (found.update or {})["losses"] == (again.update or {})["losses"]
    assert one.curve() == other.curve()
    with pytest.raises(ConfigError, match="knows no top_p"):
        done("third", **{"sampling.top_p": 0.9})


def point(values: dict[str, float], after: int = 0) -> dict[str, Any]:
    return {"after": after, "by_task": {t: {"accuracy": v, "gain": v} for t, v in values.items()}}


def test_a_rise_is_paired_by_task_and_its_interval_knows_seeds_and_tasks(curves: ModuleType) -> None:
    points = [point({"a": 0.1, "b": 0.3, "lost": 0.9}), point({"a": 0.5, "b": 0.9})]
    assert curves.rise(points, "accuracy") == pytest.approx({"a": 0.4, "b": 0.6})
    same = [{"a": 0.5, "b": 0.5}] * 3
    assert curves.interval(same) == (0.5, 0.5, 0.5)
    mean, low, high = curves.interval([{"a": 0.0, "b": 0.2}, {"c": 0.6, "d": 0.8}])
    assert mean == pytest.approx(0.4) and low <= 0.1 and high >= 0.7, "two runs that differ leave much open"


def test_a_seed_whose_first_look_has_no_gain_has_no_rise_of_it(curves: ModuleType) -> None:
    def made(arm: str, seed: int, first: dict[str, float]) -> dict[str, Any]:
        points = [{"after": 0, "by_task": {"a": {"accuracy": 0.1, **first}}}, point({"a": 0.5}, after=1)]
        return {"arm": arm, "seed": seed, "points": points, "rounds": []}

    without = [made("learning", 1, {}), made("shuffled", 1, {"gain": 0.1})]
    lines = curves.table(without, "gain")
    assert [line.split(" | ")[:2] for line in lines[2:]] == [["| shuffled", "1"]]
    assert len(curves.table(without)) == 5, "of accuracy there is a rise"
    both = [*without, made("learning", 2, {"gain": 0.2}), made("shuffled", 2, {"gain": 0.2})]
    assert curves.table(both, "gain")[4].startswith("| learning over shuffled | 1 |")
    assert "nan" not in curves.picture([curves.panel("gain", both, "gain")])


def test_the_table_and_the_picture_hold_each_arm(curves: ModuleType) -> None:
    def made(arm: str, last: float) -> dict[str, Any]:
        return {
            "arm": arm,
            "seed": 1,
            "points": [point({"a": 0.1, "b": 0.2}), point({"a": last, "b": last}, after=1)],
            "rounds": [],
        }

    runs = [made("learning", 0.8), made("shuffled", 0.15)]
    lines = curves.table(runs)
    assert lines[0] == "| arm | seeds | before | after 1 | rise | interval |"
    assert lines[2].startswith("| learning | 1 | 0.150 | 0.800 | +0.650 |")
    assert lines[3].startswith("| shuffled | 1 | 0.150 | 0.150 | +0.000 |")
    assert lines[4].startswith("| learning over shuffled | 1 |  |  | +0.650 |")
    alone = [made("learning", 0.8), {**made("shuffled", 0.15), "seed": 2}]
    assert len(curves.table(alone)) == 4, "seeds are paired"
    drawn = curves.picture([curves.panel("a < b", runs, "accuracy")])
    root = ElementTree.fromstring(drawn)
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b" in texts and "learning" in texts and "shuffled" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 4


def seen(seed: int, looks: dict[int, dict[str, float]], arm: str = "learning") -> dict[str, Any]:
    points = [point(values, after) for after, values in looks.items()]
    return {"arm": arm, "seed": seed, "points": points, "rounds": []}


def test_columns_and_axis_count_rounds_and_a_seed_that_was_looked_at_more_often_is_one_of_them(
    curves: ModuleType,
) -> None:
    runs = [
        seen(1, {0: {"a": 0.1}, 1: {"a": 0.9}, 5: {"a": 0.5}}),
        seen(2, {0: {"a": 0.2}, 5: {"a": 0.4}}),
        seen(3, {0: {"a": 0.9}, 1: {"a": 0.9}}),  # stopped
        seen(2, {0: {"a": 0.2}, 5: {"a": 0.3}}, "shuffled"),
    ]
    lines = curves.table(runs)
    assert lines[0] == "| arm | seeds | before | after 5 | rise | interval |"
    assert lines[2].startswith("| learning | 2 | 0.150 | 0.450 | +0.300 |")
    assert lines[4].startswith("| learning over shuffled | 1 |  |  | +0.100 |")
    assert curves.table([seen(1, {0: {"a": 0.1}}), seen(2, {5: {"a": 0.1}})])[0].startswith("no run has looked")
    later = [seen(n, {2: {"a": 0.1}, 4: {"a": 0.2}}) for n in (1, 2)]
    assert curves.table(later)[0] == "| arm | seeds | after 2 | after 4 | rise | interval |"


def test_cells_are_of_the_tasks_that_the_rise_is_of(curves: ModuleType) -> None:
    lost = seen(1, {0: {"a": 0.1, "b": 0.3, "lost": 0.9}, 2: {"a": 0.5, "b": 0.9}})
    assert "| 0.200 | 0.700 | +0.500 |" in curves.table([lost])[2]
    assert len(curves.table([lost, seen(1, {0: {"c": 0.1}, 2: {"d": 0.5}}, "shuffled")])) == 3, "nothing to compare"


def test_a_curve_is_drawn_over_the_rounds_that_it_was_looked_at_after(curves: ModuleType) -> None:
    runs = [
        seen(1, {0: {"a": 0.0}, 1: {"a": 0.8}, 5: {"a": 1.0}}),
        seen(2, {0: {"a": 0.0}, 5: {"a": 0.5}}),
        seen(3, {0: {"a": 0.0}, 1: {"a": 0.2}}),
    ]
    root = ElementTree.fromstring(curves.picture([curves.panel("p", runs, "accuracy")]))
    svg = "{http://www.w3.org/2000/svg}"
    labels = {t.text: float(t.get("x", "")) for t in root.iter(f"{svg}text") if t.get("text-anchor") == "middle"}
    assert labels.keys() == {"0", "1", "5", "rounds"}
    assert labels["1"] - labels["0"] == pytest.approx((labels["5"] - labels["0"]) / 5)
    drawn = [[float(p.split(",")[0]) for p in one.get("points", "").split()] for one in root.iter(f"{svg}polyline")]
    assert drawn[0] == [labels["0"], labels["1"], labels["5"]] and drawn[2] == [labels["0"], labels["1"]]
    assert drawn[3] == [labels["0"], labels["5"]], "the mean is of the rounds after which every whole run was looked at"


def test_a_single_look_is_drawn_as_a_point(curves: ModuleType) -> None:
    root = ElementTree.fromstring(curves.picture([curves.panel("p", [seen(1, {0: {"a": 0.4}})], "accuracy")]))
    svg = "{http://www.w3.org/2000/svg}"
    assert list(root.iter(f"{svg}circle")) and not list(root.iter(f"{svg}polyline"))
