"""Racing inside training: edits that can't win after a part of their epochs are not trained to the end."""

from pathlib import Path
from typing import Any

import pytest
from counted_trials import counted
from made_crew import MadeCrew
from made_runs import configured, go, towns

from seal_ray.errors import CoverageError
from seal_ray.events import EditsDropped, Warned
from seal_ray.grading import heats
from seal_ray.grading.racing import Standing, out_of_the_race
from seal_ray.loops.history import Round, Run
from seal_ray.records import Failure, Recipe, Trial

RACE = {"inner.heat": 0.5, "inner.heat_keep": 0.5, "sampling.edits": 6, "evaluation.every": 0, "inner.epochs": 4}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towns(tmp_path_factory.mktemp("data") / "passages.json")


def standing(edit: str, mean: float, error: float = 0.1) -> Standing:
    return Standing(edit, "t", 1, 1, mean, error, 0.01)


def test_those_behind_by_more_than_chance_go_and_then_the_last_ones() -> None:
    race = [standing("a", 1.0), standing("b", 0.2), standing("c", 0.9), standing("d", 0.95), standing("e", 0.8)]
    out = out_of_the_race(race, list("abcde"), 1.0)
    assert set(out) == {"b"} and out["b"] == "behind by 0.8 ± 0.14 in the heat"
    out = out_of_the_race(race, list("abcde"), 0.6)
    assert set(out) == {"b", "e"} and out["e"] == "place 4 of 5 in the heat, and 3 go on"
    assert set(out_of_the_race(race, list("abcde"), 0.0)) == {"b", "c", "e"}, "two are always left"


def test_an_edit_of_which_a_heat_tells_nothing_stays() -> None:
    assert out_of_the_race([standing("a", 1.0)], ["a", "x", "y"], 0.0) == {}
    assert out_of_the_race([], ["a", "x", "y"], 0.0) == {}
    far = [standing("a", 1.0), standing("b", -9.0)]
    assert out_of_the_race(far, ["a", "b", "x"], 0.0) == {}, "what goes on is never a single edit"


def test_by_an_error_that_is_not_known_nobody_is_behind() -> None:
    race = [standing(edit, mean, error=0.0) for edit, mean in zip("abcd", (1.0, 0.9, 0.1, 0.0), strict=True)]
    assert out_of_the_race(race, list("abcd"), 1.0) == {}
    out = out_of_the_race(race, list("abcd"), 0.75)
    assert out == {"d": "place 4 of 4 in the heat, and 3 go on"}


def test_a_heat_is_a_whole_short_training() -> None:
    assert heats.shortened(Recipe(epochs=10), 0.25) == Recipe(epochs=2)
    assert heats.shortened(Recipe(epochs=1), 0.25) == Recipe(epochs=1)


@pytest.fixture(scope="module")
def raced(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, MadeCrew, list[Any]]:
    with pytest.MonkeyPatch.context() as patch:
        return go(configured(data, tmp_path_factory.mktemp("raced") / "run", **RACE), patch)


def of_round(found: Round) -> dict[str, Any]:
    """Everything that a round came to, as sets, for it comes in any order."""
    return {
        "trials": {t.candidate for t in found.trials},
        "rewards": {r["edit"]: r["value"] for r in (found.rewards or {})["rewards"]},
        "choices": found.choices,
    }


def test_only_the_edits_that_are_left_are_trained_in_full(raced: tuple[Run, MadeCrew, list[Any]]) -> None:
    run, _, heard = raced
    for found in run.rounds():
        decided = list(run.ledger.round(found.number).records("droppings").values())
        assert {d.task for d in decided} == {t.id for t in found.tasks} and all(d.stage == "heat" for d in decided)
        kept = {e for d in decided for e in d.kept}
        gone = {e for d in decided for e in d.dropped}
        assert len(kept) <= 3 * len(decided) and len(kept | gone) == 6 * len(decided)
        tried = {c.edit for c in found.candidates if c.kind == "edit"}
        assert tried == kept
        assert {r["edit"] for r in (found.rewards or {})["rewards"]} == kept, (
            "a dropped edit has no reward, and no zero"
        )
        raced_in = [c for c in found.candidates if c.kind == "heat"]
        assert {c.edit for c in raced_in} == kept | gone
        assert {c.recipe.epochs for c in raced_in if c.recipe} == {2}
        assert {c.recipe.epochs for c in found.candidates if c.kind == "edit" and c.recipe} == {4}
    told = [e for e in heard if isinstance(e, EditsDropped)]
    assert told and all(e.dropped >= 3 and e.reasons for e in told)


def test_progress_counts_heats_and_what_goes_on_after_them(data: Path, raced: tuple[Run, MadeCrew, list[Any]]) -> None:
    run, _, heard = raced
    ended = counted(heard, configured(data, Path("run"), **RACE))
    assert len(ended) == 3 and all(done == total for done, total in ended)
    own = [sum(t.task in {x.id for x in r.tasks} for t in r.trials) for r in run.rounds()]
    assert [done for done, _ in ended] == own


def test_heats_cost_less_than_training_all(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, all_of_them, _ = go(
        configured(data, tmp_path / "run", **{**RACE, "inner.heat": 0, "inner.repeats": 3}), monkeypatch
    )
    _, crew, _ = go(configured(data, tmp_path / "raced", **{**RACE, "inner.repeats": 3}), monkeypatch)
    steps = [sum(a.steps for a in c.tried if a.candidate.kind in {"edit", "heat"}) for c in (crew, all_of_them)]
    assert steps[0] <= 0.67 * steps[1]


def test_a_run_that_is_broken_off_drops_the_same_edits(
    raced: tuple[Run, MadeCrew, list[Any]],
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configured(data, tmp_path / "run", **RACE)
    for after in (6, 12, 10, 8):  # among heats, between a decision and what follows from it, …
        with pytest.raises(RuntimeError, match="broken off"):
            go(config, monkeypatch, break_after=after)
    resumed, _, _ = go(config, monkeypatch)
    for mine, theirs in zip(resumed.rounds(), raced[0].rounds(), strict=True):
        assert of_round(mine) == of_round(theirs)
        decided, before = (dict(run.ledger.round(mine.number).records("droppings")) for run in (resumed, raced[0]))
        assert decided == before


def test_a_decision_is_in_the_ledger_before_anything_is_trained_on_it(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = configured(data, tmp_path / "run", **{**RACE, "run.rounds": 1})
    seen: list[bool] = []
    trial = MadeCrew.trial

    def looked_at(crew: MadeCrew, attempt: Any) -> Trial:
        if attempt.candidate.kind == "edit":
            part = Run(config.run.uri).ledger.round(1)
            seen.append(any(d.task == attempt.candidate.task for d in part.records("droppings").values()))
        return trial(crew, attempt)

    monkeypatch.setattr(MadeCrew, "trial", looked_at)
    go(config, monkeypatch)
    assert seen and all(seen)


def test_neither_the_gate_nor_the_learning_curve_races(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = {"evaluation.every": 1, "run.rounds": 1, "gate.mode": "auto", "gate.tasks": 2, "evaluation.edits": 4}
    run, crew, _ = go(configured(data, tmp_path / "run", **{**RACE, **changes}), monkeypatch)
    own = {t.id for t in run.round(1).tasks}
    assert {a.candidate.task for a in crew.tried if a.candidate.kind == "heat"} == own
    assert len({a.candidate.task for a in crew.tried if a.candidate.kind == "edit"}) > len(own) + 2


def losing(kind: str, *, first: int = 1) -> type[MadeCrew]:
    """A crew on whose machines the first trials of a kind are lost, whoever asks again in the same run."""

    class Losing(MadeCrew):
        gone: frozenset[str] = frozenset()

        def trial(self, attempt: Any) -> Trial:
            name = attempt.candidate.id
            if attempt.candidate.kind == kind and (name in self.gone or len(self.gone) < first):
                self.gone |= {name}
                return Trial(name, attempt.candidate.task, failure=Failure("lost", "its node is gone", "infra"))
            return super().trial(attempt)

    return Losing


def test_an_edit_that_was_lost_in_a_heat_is_neither_ahead_nor_behind(
    raced: tuple[Run, MadeCrew, list[Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(data, tmp_path / "run", **{**RACE, "run.rounds": 1})
    run, crew, _ = go(config, monkeypatch, crew=losing("heat"))
    (gone,) = crew.gone  # type: ignore[attr-defined]
    found = run.round(1)
    (lost,) = (c for c in found.candidates if c.id == gone)
    decided, whole = (r.ledger.round(1).records("droppings") for r in (run, raced[0]))
    (own,) = (d for d in decided.values() if d.task == lost.task)
    assert lost.edit in own.kept and len(own.kept) <= 1 + 3, "it took another one's place, or lost its own"
    assert set(own.dropped) <= {*whole[own.id].dropped}, "one is out that would have gone on without the loss"
    tried = {c.edit for c in found.candidates if c.kind == "edit" and c.task == lost.task}
    assert tried == set(own.kept) and lost.edit in {r["edit"] for r in (found.rewards or {})["rewards"]}
    assert all(decided[name] == whole[name] for name in decided.keys() - {own.id})


def test_a_heat_whose_baseline_was_lost_is_decided_once_that_is_there(
    raced: tuple[Run, MadeCrew, list[Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(data, tmp_path / "run", **{**RACE, "run.coverage": 1.0})
    with pytest.raises(CoverageError):
        go(config, monkeypatch, crew=losing("baseline"))
    part = Run(config.run.uri).ledger.round(1)
    decided, tasks = {d.task for d in part.records("droppings").values()}, raced[0].round(1).tasks
    assert len(decided) == len(tasks) - 1, "everything goes on where nobody could tell what is worth it"
    assert {c.task for c in part.records("candidates").values() if c.kind == "edit"} == decided
    resumed, _, _ = go(config, monkeypatch)
    for mine, theirs in zip(resumed.rounds(), raced[0].rounds(), strict=True):
        assert of_round(mine) == of_round(theirs)


def test_a_round_goes_on_without_a_heat_that_could_not_be_decided_where_enough_is_covered(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(data, tmp_path / "run", **{**RACE, "run.rounds": 1, "run.coverage": 0.1})
    run, crew, heard = go(config, monkeypatch, crew=losing("baseline"))
    found = run.round(1)
    (gone,) = (c.task for c in found.candidates if c.id in crew.gone)  # type: ignore[attr-defined]
    rewarded = {r["task"] for r in (found.rewards or {})["rewards"]}
    assert rewarded == {t.id for t in found.tasks} - {gone}
    assert (found.rewards or {})["coverage"] < 0.9, "what could not be tried counts as missing"
    assert [e for e in heard if isinstance(e, Warned) and gone in e.message]
