"""Held-out tasks and controls: what a run measures beside its rounds, and what it learns from when it must not."""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ledger_samples import begin
from made_crew import MadeCrew
from made_runs import configured, go, towns
from typer.testing import CliRunner

from seal_ray import models
from seal_ray.cli import app
from seal_ray.commands import report
from seal_ray.commands.compare import compare, show
from seal_ray.config import Config, EvaluationSection, ModelSection
from seal_ray.config_checks import check, contradictions
from seal_ray.errors import ConfigError
from seal_ray.event_stream import decode_event, encode_event
from seal_ray.events import HeldOutScored, Warned
from seal_ray.loops import held_out, rounds
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.observe.progress import told
from seal_ray.observe.scalars import scalars
from seal_ray.policy import control
from seal_ray.records import Attempt, Estimate, Reward, Task, Trial, derive_seed
from seal_ray.storage.ledger import Ledger


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towns(tmp_path_factory.mktemp("data") / "passages.json")


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, MadeCrew, list[Any]]:
    with pytest.MonkeyPatch.context() as patch:
        return go(configured(data, tmp_path_factory.mktemp("whole") / "run"), patch)


def test_every_version_is_tried_on_the_same_tasks_that_no_round_has_seen(
    whole: tuple[Run, MadeCrew, list[Any]],
) -> None:
    run, _, heard = whole
    curve = run.curve()
    assert [(p["after"], p["version"]) for p in curve] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    tried = {task for p in curve for task in p["by_task"]}
    assert all(sorted(p["drawn"]) == sorted(tried) for p in curve)
    assert len(tried) == 3 and all(set(p["by_task"]) == tried for p in curve)
    assert not tried & {t.id for r in run.rounds() for t in r.tasks}
    told_of = [e for e in heard if isinstance(e, HeldOutScored)]
    assert [e.version for e in told_of] == [0, 1, 2, 3] and all(e.written == 6 for e in told_of)


def test_held_out_trials_count_neither_for_rewards_nor_for_what_is_learned_from(
    whole: tuple[Run, MadeCrew, list[Any]],
) -> None:
    run, crew, _ = whole
    for found in run.rounds():
        own = {t.id for t in found.tasks}
        assert {r["task"] for r in (found.rewards or {})["rewards"]} == own
        assert {c.task for c in found.choices} <= own
    assert all(lesson.task not in run.curve()[0]["by_task"] for job in crew.jobs for lesson in job.lessons)


def test_a_run_that_is_broken_off_comes_to_the_same_curve(
    whole: tuple[Run, MadeCrew, list[Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, crew, _ = whole
    config = configured(data, tmp_path / "run")
    for after in (5, 12, 30):  # among the first look, among a round's own trials, among a later look
        with pytest.raises(RuntimeError, match="broken off"):
            go(config, monkeypatch, break_after=after)
    resumed, last, _ = go(config, monkeypatch)
    assert resumed.curve() == run.curve()
    assert len(last.tried) < len(crew.tried), "what was tried before is not tried again"


def test_a_version_that_did_not_change_is_not_tried_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(data, tmp_path / "run", **{"run.rounds": 2, "select.margin": 1e6})
    run, crew, _ = go(config, monkeypatch)
    first, *later = run.curve()
    assert [p["after"] for p in later] == [1, 2]
    assert all({**p, "after": 0} == first for p in later) and not crew.jobs
    tried = [a for a in crew.tried if a.candidate.task in first["by_task"]]
    assert len(tried) == 3 * (1 + 2)


def test_every_second_round_and_the_last_are_looked_at(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, _ = go(configured(data, tmp_path / "run", **{"evaluation.every": 2}), monkeypatch)
    assert [p["after"] for p in run.curve()] == [0, 2, 3]
    never, crew, _ = go(configured(data, tmp_path / "never", **{"evaluation.every": 0}), monkeypatch)
    assert never.curve() == []
    assert not {a.candidate.task for a in crew.tried} & set(run.curve()[0]["by_task"])


class Alike(MadeCrew):
    """Every second edit helps to answer; what edits do to likelihoods becomes alike from version to version."""

    tokenizer = models.tokenizer(models.fetch(ModelSection(name="builtin:tiny")))

    def trial(self, attempt: Attempt) -> Trial:
        made, candidate = super().trial(attempt), attempt.candidate
        luck = derive_seed("alike", candidate.id) / 2**31
        gain = 1 + (luck - 0.5) * 0.1 ** len(self.jobs) if candidate.kind == "edit" else 0.0
        golds = {a.question: self.tokenizer.decode(a.gold_ids[0], skip_special_tokens=True) for a in attempt.asks}
        right = candidate.kind == "edit" and luck < 0.5
        return dataclasses.replace(
            made,
            answers=tuple(dataclasses.replace(a, text=golds[a.question] if right else "?") for a in made.answers),
            likelihoods=tuple(dataclasses.replace(x, logprob=x.tokens * (gain - 5)) for x in made.likelihoods),
        )


def units(run: Run) -> list[float]:
    """By look, how much accuracy a unit of likelihood counts as in the gain."""
    share, found = run.config.grading.blend, []
    for point in run.curve():
        by_arm = point["arms"]
        right, likely = (by_arm["edit"][m]["mean"] - by_arm["base"][m]["mean"] for m in ("accuracy", "likelihood"))
        found.append((point["gain"]["mean"] - (1 - share) * right) / (share * likely))
    return found


def test_every_look_measures_gain_in_the_unit_of_the_first(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"grading.reward": "blend", "grading.blend_of": "likelihood", "evaluation.edits": 4}
    run, _, _ = go(configured(data, tmp_path / "run", **changes), monkeypatch, crew=Alike)
    first, *later = units(run)
    assert len(later) == 3 and later == pytest.approx([first] * 3), "edits that are merely alike gain no more"
    assert [p["scale"] for p in run.curve()] == pytest.approx([first] * 4)
    rounds_ = [r.rewards or {} for r in run.rounds()]
    assert len({r["scale"] for r in rounds_}) == 3, "rewards are compared within their round, in its own unit"


class LateRight(Alike):
    """Of the first version's edits none helps: nothing tells what a likelihood is worth."""

    def trial(self, attempt: Attempt) -> Trial:
        made = super().trial(attempt)
        if self.jobs:
            return made
        return dataclasses.replace(made, answers=tuple(dataclasses.replace(a, text="?") for a in made.answers))


def test_a_look_that_tells_no_unit_has_no_gain_and_that_of_the_next_one_is_kept(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"grading.reward": "blend", "grading.blend_of": "likelihood", "evaluation.edits": 4}
    run, _, heard = go(configured(data, tmp_path / "run", **changes), monkeypatch, crew=LateRight)
    first, *later = run.curve()
    scales = [p["scale"] for p in later]
    assert first["scale"] is None and scales[0] and scales == [scales[0]] * 3
    assert first["gain"] is None and {m for own in first["by_task"].values() for m in own} == {
        "edits", "accuracy", "likelihood",
    }  # fmt: skip
    assert all(p["gain"] and all("gain" in own for own in p["by_task"].values()) for p in later)
    event = next(e for e in heard if isinstance(e, HeldOutScored))
    assert decode_event(encode_event(event)) == event and "version 0: accuracy 0.0%" in told(event)
    assert {s.name for s in scalars(event)} & {"held_out/gain", "held_out/arms/edit/accuracy"} == {
        "held_out/arms/edit/accuracy"
    }
    lines = show(compare([run, run])).splitlines()
    assert lines[lines.index("held-out tasks: gain of the mean edit") + 2].split()[-7] == "-"
    page = report.overview(run)
    assert page["curve"][0]["gain"] is None  # type: ignore[index]


def test_where_only_accuracy_counts_a_look_needs_no_unit(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {
        "grading.reward": "blend",
        "grading.blend_of": "likelihood",
        "grading.blend": 0,
        "evaluation.edits": 4,
        "run.rounds": 1,
    }
    run, _, _ = go(configured(data, tmp_path / "run", **changes), monkeypatch, crew=LateRight)
    assert run.curve()[0]["gain"]["mean"] == 0.0


def test_a_run_whose_first_look_kept_no_unit_goes_on_as_it_began(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"grading.reward": "blend", "grading.blend_of": "likelihood", "evaluation.edits": 4}
    with monkeypatch.context() as patch:  # as older ones did
        figures = held_out._figures
        patch.setattr(held_out, "_figures", lambda *a: {k: v for k, v in figures(*a).items() if k != "scale"})
        go(configured(data, tmp_path / "run", **{**changes, "run.rounds": 1}), patch, crew=Alike)
    run, _, _ = go(configured(data, tmp_path / "run", **changes), monkeypatch, crew=Alike)
    assert ["scale" in p for p in run.curve()] == [False, False, True, True]
    assert len({round(unit, 6) for unit in units(run)}) == 4, "each look has a unit of its own"


def test_a_domain_that_keeps_no_held_out_tasks_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.every: .*domain\.test keeps none"):
        check(configured(data, tmp_path / "run", **{"domain.test": 0}))
    with pytest.raises(ConfigError, match=r"evaluation\.every: 1 needs held-out tasks, and the split test has [01]"):
        go(configured(data, tmp_path / "run", **{"domain.test": 0.01}), monkeypatch)


def test_too_few_held_out_tasks_are_found_before_a_run_is_created(data: Path, tmp_path: Path) -> None:
    config = configured(data, tmp_path / "run", **{"domain.test": 0.01})
    with pytest.raises(ConfigError, match=r"evaluation\.every: 1 needs held-out tasks, and the split test has [01]"):
        Session(config, check=rounds.check)
    assert not (tmp_path / "run").exists(), "domain.test may be raised at the same URI"


class Tasks:
    """A domain of which only its held-out tasks are asked for."""

    def __init__(self, names: Iterable[int]) -> None:
        self._tasks = [Task(f"{n:02d}", {"context": "c", "questions": [1]}) for n in names]

    def tasks(self, split: str) -> list[Task]:
        return self._tasks if split == "test" else []


def drawn(path: Path, names: Iterable[int], heard: list[Any] | None = None) -> list[str]:
    """Which tasks the next round's look takes, where the data has these; it is put into the ledger."""
    ledger = Ledger(str(path)) if path.exists() else begin(str(path))
    ledger.acquire("test")
    number = len(ledger.rounds()) + 1
    config = SimpleNamespace(run=SimpleNamespace(seed=0), evaluation=EvaluationSection(every=1, tasks=5))
    tell = (heard if heard is not None else []).append
    session: Any = SimpleNamespace(config=config, domain=Tasks(names), ledger=ledger, tell=tell)
    found = [t.id for t in held_out._draw(session, number)]
    ledger.round(number).put("held_out.json", {"drawn": found})
    ledger.close()
    return found


def test_the_same_tasks_are_looked_at_whatever_becomes_of_the_others(tmp_path: Path) -> None:
    first = drawn(tmp_path / "run", range(20))
    others = [n for n in range(20) if f"{n:02d}" not in first]
    heard = list[Any]()
    assert len(first) == 5 and drawn(tmp_path / "run", [*range(20)], heard) == first
    for names in ([n for n in range(20) if n != others[0]], range(23)):
        assert drawn(tmp_path / "run", names, heard) == first and not heard
    left = [n for n in range(20) if f"{n:02d}" not in first[1:3]]
    assert drawn(tmp_path / "run", left, heard) == [first[0], *first[3:]]
    assert [e.message for e in heard] == ["2 of 5 held-out tasks are gone: the curve goes on without them"]
    assert drawn(tmp_path / "run", range(20)) == first, "what comes back is looked at again"


def test_where_hardly_any_of_the_tasks_is_left_they_are_drawn_anew_once(tmp_path: Path) -> None:
    first = drawn(tmp_path / "run", range(20))
    heard, left = list[Any](), [n for n in range(20) if f"{n:02d}" not in first[1:]]
    anew = drawn(tmp_path / "run", left, heard)
    assert len(anew) == 5 and "others are drawn" in heard[0].message
    assert drawn(tmp_path / "run", [*left, 20, 21]) == anew


def test_a_run_whose_looks_kept_no_tasks_draws_them_as_it_did(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path / "run"))
    ledger.round(1).put("held_out_before.json", {"gain": None})  # as older ones did
    ledger.close()
    before = drawn(tmp_path / "run", range(20))
    assert drawn(tmp_path / "run", range(19)) == drawn(tmp_path / "other", range(19)) != before


def test_the_curve_is_told_drawn_and_compared(whole: tuple[Run, MadeCrew, list[Any]], tmp_path: Path) -> None:
    run, _, heard = whole
    event = next(e for e in heard if isinstance(e, HeldOutScored))
    assert decode_event(encode_event(event)) == event
    assert "held-out tasks, version 0: mean edit's gain" in told(event)
    assert {s.name for s in scalars(event)} >= {"held_out/gain", "held_out/gain_error", "held_out/arms/edit/accuracy"}
    shown: Any = report.overview(run)
    assert [p["after"] for p in shown["curve"]] == [0, 1, 2, 3]
    assert {s["phase"] for s in shown["time"]["spans"]} >= {"evaluation"}
    assert shown["rounds"][0]["cost"]["evaluation"]["trials"] == 2 * 3 * (1 + 2)
    parts = {str(p.task["part"]) for p in report.pages(run)}
    assert parts == {"train", "held out"}
    lines = show(compare([run, run])).splitlines()
    start = lines.index("held-out tasks: gain of the mean edit")
    assert lines[start + 1].split() == ["after", "0", "after", "1", "after", "2", "after", "3"]
    gain = run.curve()[0]["gain"]
    assert f"{gain['mean']:+.3f} ±{gain['error']:.3f}" in lines[start + 2]
    page = tmp_path / "side by side" / "compare.html"
    done = CliRunner().invoke(app, ["compare", run.uri, run.uri, "--to", str(page)])
    assert done.exit_code == 0 and f"{gain['mean']:+.3f} ±{gain['error']:.3f}" in page.read_text()
    assert "held-out tasks: accuracy of the mean edit" in page.read_text() and "<polyline" in page.read_text()
    done = CliRunner().invoke(app, ["report", run.uri, "--to", str(tmp_path / "report.html")])
    assert done.exit_code == 0 and '"curve":[{"after":0' in (tmp_path / "report.html").read_text()


# a control


def rewards(values: dict[str, float], task: str = "t") -> list[Reward]:
    return [
        Reward(e, task, n, Estimate(v, 0.1), Estimate(v, 0.1), Estimate(v, 0.0), Estimate(-v, 0.0))
        for n, (e, v) in enumerate(values.items())
    ]


def test_shuffled_rewards_stay_within_their_task_and_depend_on_the_seed_alone() -> None:
    own = [*rewards({f"a{n}": n for n in range(6)}, "a"), *rewards({f"b{n}": 10 + n for n in range(6)}, "b")]
    dealt = control.shuffled(own, 1)
    assert {(r.edit, r.task, r.slot) for r in dealt} == {(r.edit, r.task, r.slot) for r in own}
    for task in "ab":
        assert sorted(r.value.mean for r in dealt if r.task == task) == [r.value.mean for r in own if r.task == task]
    assert all(r.raw == r.value and r.likelihood == Estimate(-r.value.mean, 0.0) for r in dealt), "dealt out as a whole"
    assert dealt == control.shuffled(own[::-1], 1) != control.shuffled(own, 2)


def test_over_many_seeds_every_edit_is_as_often_the_best() -> None:
    own = rewards({f"e{n}": n for n in range(4)})
    best = [max(control.shuffled(own, seed), key=lambda r: r.value.mean).edit for seed in range(400)]
    assert all(60 < best.count(r.edit) < 140 for r in own)


def test_a_control_chooses_by_shuffled_rewards_and_says_so_in_its_ledger(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(data, tmp_path / "run", **{"select.control": "shuffled", "sampling.edits": 4})
    run, _, heard = go(config, monkeypatch)
    assert any(isinstance(e, Warned) and "this run is a control" in e.message for e in heard)
    picked = []
    for found in run.rounds():
        selection = run.ledger.round(found.number).get("selection.json") or {}
        dealt = selection["control"]["values"]
        own = {r["edit"]: r for r in (found.rewards or {})["rewards"]}
        assert selection["control"]["kind"] == "shuffled" and dealt.keys() == own.keys()
        seed = derive_seed(config.run.seed, found.number, "control")
        for choice in found.choices:
            of_task = [e for e, r in own.items() if r["task"] == choice.task]
            assert dealt[choice.edit] == max(dealt[e] for e in of_task)
            picked.append(own[choice.edit]["value"]["mean"] == max(own[e]["value"]["mean"] for e in of_task))
        assert seed != config.run.seed
        told_kept = [own[c.edit]["likelihood"]["mean"] for c in found.choices]
        assert selection["kept"]["likelihood"]["mean"] == pytest.approx(sum(told_kept) / len(told_kept))
    assert not all(picked), "the best edits were chosen all the same"


def test_a_control_is_never_turned_on_in_a_run_that_was_begun_without(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go(configured(data, tmp_path / "run", **{"run.rounds": 1}), monkeypatch)
    with pytest.raises(ConfigError, match=r"select\.control was 'none' and is 'shuffled'"):
        go(configured(data, tmp_path / "run", **{"select.control": "shuffled"}), monkeypatch)
    assert Config().select.control == "none"
    assert [c.key for c in contradictions(Config())] == []
