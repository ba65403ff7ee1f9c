"""The model of gain: what it learns, whom it drops, what it refuses, and how a run uses it."""

import math
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_crew import MadeCrew
from made_runs import configured, go, towns

from seal_ray.config import GradingSection
from seal_ray.errors import ConfigError
from seal_ray.events import EditsDropped, Warned
from seal_ray.grading.gain_model import GainModel, TriedEdit, calibrated, fit, predict, unpromising
from seal_ray.loops import foreseeing
from seal_ray.loops.exploring.gain_features import features_of
from seal_ray.loops.history import Run
from seal_ray.records import Attempt, Description, Edit, Likelihood, Trial, decode, encode


def samples(tasks: int = 12, edits: int = 5, noise: float = 0.1, seed: int = 1) -> list[TriedEdit]:
    """Gains that come of one feature, on top of what the task brings; another feature tells of the task alone."""
    luck, found = random.Random(seed), list[TriedEdit]()
    for t in range(tasks):
        ease = luck.gauss(0, 3)
        for _ in range(edits):
            useful = luck.random()
            features = {"useful": useful, "ease": ease, "chance": luck.random()}
            found.append(TriedEdit(f"t{t}", features, ease + 2 * useful + luck.gauss(0, noise)))
    return found


def fitted(**changes: Any) -> GainModel:
    model = fit(samples(**changes), "base", "blend")
    assert isinstance(model, GainModel)
    return model


def test_it_finds_what_makes_an_edit_good_and_not_what_makes_a_task_easy() -> None:
    model = fitted()
    weights = dict(zip(model.names, model.weights, strict=True))
    assert weights["useful"] == pytest.approx(2, abs=0.2)
    assert weights["ease"] == 0 and abs(weights["chance"]) < 0.2
    assert model.agreement > 0.95 and model.error < 0.2
    predicted = predict(model, {"a": {"useful": 0.9}, "b": {"useful": 0.1}})
    assert predicted["a"] - predicted["b"] == pytest.approx(1.6, abs=0.2)
    assert decode(GainModel, encode(model)) == model


def test_its_error_is_what_it_does_on_tasks_that_it_has_not_seen() -> None:
    pure_chance = [TriedEdit(s.task, {"chance": s.features["chance"]}, s.gain) for s in samples(noise=1.0)]
    model = fit(pure_chance, "base", "blend")
    assert isinstance(model, GainModel) and model.agreement < 0.3
    fresh = samples(seed=2)
    by_task = sorted({s.task for s in fresh})
    said = [predict(fitted(), {str(n): s.features for n, s in enumerate(fresh) if s.task == t}) for t in by_task]
    came = [{str(n): s.gain for n, s in enumerate(fresh) if s.task == t} for t in by_task]
    found = calibrated(said, came)
    assert found and found.error == pytest.approx(fitted().error, rel=0.3)
    assert found.correlation and found.correlation > 0.95 and found.error < found.spread / 3
    assert calibrated([{"a": 1.0}], [{"a": 1.0, "b": 2.0}]) is None, "one edit of a task tells nothing"


def test_too_little_is_said_and_not_fitted() -> None:
    assert fit([], "b", "") == "a model of gain wants 40 tried edits of 6 tasks, and there are 0 of 0"
    assert "there are 25 of 5" in str(fit(samples(tasks=5), "b", ""))
    assert isinstance(fit(samples(tasks=40, edits=1), "b", ""), str), "edits alone on their task can't be compared"


def test_the_least_promising_go_some_are_spared_by_chance_and_two_are_always_left() -> None:
    model = fitted()
    edits = {f"e{n}": {"useful": n / 10} for n in range(10)}
    out = unpromising(model, edits, 0.5, 0.0, 1)
    assert set(out) == {f"e{n}" for n in range(5)}
    assert out["e0"].startswith("predicted gain ") and out["e0"].endswith("place 10 of 10")
    assert len(unpromising(model, edits, 1.0, 0.0, 1)) == 8
    assert len(unpromising(model, edits, 0.7, 0.0, 1)) == 7, "(1 - 0.7) * 10 is a little more than 3"
    spared = [5 - len(unpromising(model, edits, 0.5, 0.4, seed)) for seed in range(200)]
    assert 1.5 < sum(spared) / 200 < 2.5
    assert unpromising(model, edits, 0.5, 0.4, 7) == unpromising(model, edits, 0.5, 0.4, 7)


def test_a_model_that_can_not_tell_edits_apart_drops_nobody() -> None:
    luck = random.Random(3)
    noise = [TriedEdit(f"t{n % 10}", {"x": luck.random()}, luck.random()) for n in range(80)]
    model = fit(noise, "base", "blend")
    assert isinstance(model, GainModel)
    if model.agreement < 0.1:
        assert unpromising(model, {f"e{n}": {"x": n / 10} for n in range(10)}, 0.5, 0.0, 1) == {}
    blind = decode(GainModel, encode(fitted()) | {"agreement": 0.05})
    assert unpromising(blind, {f"e{n}": {"useful": n / 10} for n in range(10)}, 0.5, 0.0, 1) == {}


def edit(name: str, text: str, content: Any = None, **more: Any) -> Edit:
    return Edit(name, "t", 0, "v", 0, (1,), (1, 2, 3), (-1.0, -2.0, -3.0), text, "stop", content or text, **more)


def test_features_say_how_an_edit_stands_to_the_passage_and_to_its_siblings() -> None:
    about = Description("Odo Marsh", "Odo Marsh built the bridge of Hond in 1803.")
    one = edit("one", "Who built the bridge? Odo Marsh\nWhere is it? Hond")
    copy, other = edit("copy", one.text), edit("other", "It rained all day and nobody came to see the lantern at all")
    found = features_of([one, copy, other], about)
    assert found["one"]["likeness to siblings"] == 1.0 and found["other"]["likeness to siblings"] < 0.2
    assert found["one"]["questions"] == 1.0 and found["one"]["log-probability"] == -2.0
    assert found["one"]["names covered"] == 1.0 and found["other"]["names covered"] == 0.0
    assert found["one"]["words of the passage"] > found["other"]["words of the passage"]
    settings = features_of([edit("d", "{}", {"basic": True, "loss": "all", "learning_rate": 0.01})], None)["d"]
    assert settings["basic"] == 1.0 and settings["loss all"] == 1.0
    assert settings["learning_rate"] == pytest.approx(math.log(0.01))
    with_text = features_of([edit("d", "{}", {"objective": "answers", "text": "A line.\nAnother."})], None)["d"]
    assert {n for n in with_text if n.startswith(("objective", "text"))} == {"objective answers"}


# in a run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return towns(tmp_path_factory.mktemp("data") / "passages.json", 30)


class Telling(MadeCrew):
    """Writes edits of very different lengths, and longer ones are worth more."""

    def edit(self, prompt: Any) -> Edit:
        made = super().edit(prompt)
        return Edit(**{**vars(made), "text": "A town by the sea. " * (1 + made.seed % 7)})

    def trial(self, attempt: Attempt) -> Trial:
        made = super().trial(attempt)
        better = sum(len(e.ids) for e in attempt.examples) / 50
        likely = tuple(Likelihood(x.question, x.gold, x.logprob / 20 + better, x.tokens) for x in made.likelihoods)
        return Trial(**{**vars(made), "likelihoods": likely})


FORESEEN = {
    "evaluation.every": 0, "run.tasks_per_round": 6, "sampling.edits": 6, "inner.repeats": 1, "inner.prune": 0.5,
    "run.rounds": 3, "domain.test": 0.1, "inner.prune_spare": 0.25,
}  # fmt: skip


@pytest.fixture(scope="module")
def pruned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, MadeCrew, list[Any]]:
    with pytest.MonkeyPatch.context() as patch:
        return go(configured(data, tmp_path_factory.mktemp("pruned") / "run", **FORESEEN), patch, crew=Telling)


def test_a_run_learns_from_its_rounds_what_need_not_be_tried(pruned: tuple[Run, MadeCrew, list[Any]]) -> None:
    run, _, heard = pruned
    models = [(run.ledger.round(n).get("gain_model.json") or {})["model"] for n in (1, 2, 3)]
    said = [e.message for e in heard if isinstance(e, Warned) and "dropped before" in e.message]
    assert models[0] is None and "there are 0 of 0" in said[0]
    last = models[-1]
    assert last and last["edits"] >= 40 and last["agreement"] > 0.5
    decided = list(run.ledger.round(3).records("droppings").values())
    assert {d.stage for d in decided} == {"predicted"} and len(decided) == 6
    gone = {e for d in decided for e in d.dropped}
    assert 6 <= len(gone) <= 18
    found = run.round(3)
    assert gone and not gone & {c.edit for c in found.candidates}, "it was not tried"
    assert not gone & {r["edit"] for r in (found.rewards or {})["rewards"]}, "and has no reward, which is no zero"
    assert (found.rewards or {})["calibration"]["edits"] > 12
    assert any(isinstance(e, EditsDropped) and e.stage == "predicted" for e in heard)


def test_a_run_that_is_broken_off_drops_the_same_edits(
    pruned: tuple[Run, MadeCrew, list[Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(data, tmp_path / "run", **FORESEEN)
    for after in (50, 40):
        with pytest.raises(RuntimeError, match="broken off"):
            go(config, monkeypatch, break_after=after, crew=Telling)
    resumed, _, _ = go(config, monkeypatch, crew=Telling)
    for n in (1, 2, 3):
        parts = [one.ledger.round(n) for one in (resumed, pruned[0])]
        assert dict(parts[0].records("droppings")) == dict(parts[1].records("droppings"))
        assert parts[0].get("selection.json") == parts[1].get("selection.json")


def test_predicted_rewards_come_of_another_runs_trials_and_cost_none(
    pruned: tuple[Run, MadeCrew, list[Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**FORESEEN, "inner.prune": 0, "grading.reward": "predicted", "run.rounds": 1}
    config = configured(data, tmp_path / "run", **{**changes, "grading.gain_runs": f"[{pruned[0].uri}]"})
    run, crew, _ = go(config, monkeypatch, crew=Telling)
    found = run.round(1)
    assert not crew.tried and found.committed and found.choices
    rewards = (found.rewards or {})["rewards"]
    assert (found.rewards or {})["measure"] == "predicted" and len(rewards) == sum(not e.failure for e in found.edits)
    longest = {
        t: max((e for e in found.edits if e.task == t), key=lambda e: len(e.text))
        for t in {c.task for c in found.choices}
    }
    chosen = {e.id: e for e in found.edits}
    assert all(len(chosen[c.edit].text) == len(longest[c.task].text) for c in found.choices)
    few = {**FORESEEN, "inner.prune": 0, "run.rounds": 1, "run.tasks_per_round": 2}
    go(configured(data, tmp_path / "few", **few), monkeypatch)
    with pytest.raises(ConfigError, match=r"grading\.reward: predicted, but a model of gain wants 40 tried edits"):
        alone = {**changes, "grading.gain_runs": f"[{tmp_path}/few]"}
        go(configured(data, tmp_path / "alone", **alone), monkeypatch, crew=Telling)


def test_blends_with_one_thing_and_with_another_are_different_measures() -> None:
    blended, accurate = list[Any](SimpleNamespace(rewards={"measure": m}) for m in ("blend", "accuracy"))
    sections = [GradingSection(blend_of="likelihood"), GradingSection(blend_of="contrast")]
    sections.append(GradingSection(blend_of="contrast", contrast="token"))
    assert len({foreseeing._of_what(blended, section) for section in sections}) == 3
    assert {foreseeing._of_what(accurate, section) for section in sections} == {"accuracy"}


def test_another_models_runs_and_other_measures_are_refused(
    pruned: tuple[Run, MadeCrew, list[Any]], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**FORESEEN, "run.rounds": 1, "grading.gain_runs": f"[{pruned[0].uri}]"}
    other: Any = {**changes, "grading.gain_runs": f"[{pruned[0].uri},{tmp_path}/accuracy]"}
    go(
        configured(data, tmp_path / "accuracy", **{**FORESEEN, "run.rounds": 1, "grading.reward": "accuracy"}),
        monkeypatch,
    )
    with pytest.raises(ConfigError, match="gains of different measures can't be put together"):
        go(configured(data, tmp_path / "mixed", **other), monkeypatch)
    from seal_ray.loops.session import Session

    class Another(Session):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self.base = "0" * 64

    monkeypatch.setattr("made_runs.Session", Another)
    with pytest.raises(ConfigError, match="was made with another model"):
        go(configured(data, tmp_path / "another", **changes), monkeypatch)
