"""The contrast: what training does for a right answer beyond what it does for wrong ones of its kind."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from seal_ray import config_file
from seal_ray.config import GradingSection
from seal_ray.domains import configured, distractors
from seal_ray.errors import ConfigError
from seal_ray.grading.measure import measure
from seal_ray.grading.reward import RoundRewards, agrees, rewards
from seal_ray.loops.resuming import differences
from seal_ray.records import Candidate, Edit, Estimate, Likelihood, Reward, Task, Trial, Verdict, decode, encode


def world() -> dict[str, list[tuple[str, tuple[str, ...]]]]:
    return {
        "a": [("a0", ("Ada Lovelace",)), ("a1", ("1843", "in 1843")), ("a2", ("the tide",))],
        "b": [("b0", ("Alan Turing", "Turing")), ("b1", ("1936",)), ("b2", ("an eel",))],
        "c": [("c0", ("Grace Hopper",)), ("c1", ("eleven",)), ("c2", ("oiled silk",))],
    }


def test_distractors_are_of_the_answers_kind_and_never_right() -> None:
    chosen = distractors.choose(world(), 8, seed=1)
    kinds = {question: answers[0] for asked in world().values() for question, answers in asked}
    for name, asked in world().items():
        for question, answers in asked:
            wrong = chosen[name][question]
            assert len(wrong) == len(set(wrong)) == 2
            assert not set(wrong) & set(answers)
            assert {distractors.kind_of(w) for w in wrong} == {distractors.kind_of(kinds[question])}


def test_an_answer_within_the_right_one_or_around_it_is_no_distractor() -> None:
    chosen = distractors.choose({"a": [("0", ("Turing",)), ("1", ("Alan Turing",)), ("2", ("Ada",))]}, 8, seed=1)
    assert chosen["a"]["0"] == chosen["a"]["1"] == ("Ada",)


def test_the_same_seed_chooses_the_same_whatever_the_number_of_threads_or_the_time() -> None:
    assert distractors.choose(world(), 1, seed=3) == distractors.choose(world(), 1, seed=3)
    assert any(distractors.choose(world(), 1, seed=s) != distractors.choose(world(), 1, seed=3) for s in range(9))


def test_a_question_that_has_no_like_gets_no_distractor() -> None:
    assert distractors.choose({"a": [("0", ("1843",)), ("1", ("the tide",))]}, 8, seed=1)["a"] == {"0": (), "1": ()}


def test_distractors_are_no_part_of_a_tasks_digest_and_come_back_from_its_record() -> None:
    plain, told = Task("t", {"x": 1}), Task("t", {"x": 1}, distractors={"q": ("a", "b")})
    assert plain.digest == told.digest
    assert list(decode(Task, json.loads(json.dumps(encode(told)))).distractors["q"]) == ["a", "b"]


def test_the_knowledge_domain_has_distractors_where_they_are_asked_for() -> None:
    with_them = config_file.load("builtin:quickstart", ["domain.distractors=4"])
    tasks = configured(with_them).tasks("train")
    assert all(any(task.distractors.values()) for task in tasks)
    bare = configured(config_file.load("builtin:quickstart")).tasks("train")
    assert [t.digest for t in bare] == [t.digest for t in tasks] and not any(t.distractors for t in bare)


def test_questions_that_have_no_wrong_answer_are_told_of(tmp_path: Path) -> None:
    asked = [{"question": "When?", "answer": "1843"}, {"question": "What?", "answer": "the tide"}]
    (tmp_path / "one.json").write_text(
        json.dumps([{"title": "One", "context": "In 1843 the tide.", "questions": asked}])
    )
    changes = [f"domain.data={tmp_path}/one.json", "domain.distractors=4", "domain.validation=0", "domain.test=0"]
    domain = configured(config_file.load("builtin:quickstart", changes))
    assert any("for 2 of 2 questions there is no wrong answer" in warning for warning in domain.warnings)
    assert not configured(config_file.load("builtin:quickstart", ["domain.distractors=4"])).warnings


def trial(name: str, right: dict[str, float], wrong: dict[str, list[float]]) -> Trial:
    """Log-probabilities per token, as those of answers of two tokens."""
    return Trial(
        name,
        "t",
        likelihoods=tuple(Likelihood(q, 0, 2 * value, 2) for q, value in right.items()),
        distractors=tuple(Likelihood(q, n, 2 * v, 2) for q, values in wrong.items() for n, v in enumerate(values)),
    )


def on_paper() -> tuple[list[Edit], list[Candidate], list[Trial], list[Verdict]]:
    """Edit 0 lifts every answer alike, edit 1 lifts the right one alone, though less."""
    edits = [Edit(f"e{s}", "t", s, "v", 0, (), (), (), f"text {s}", "stop") for s in (0, 1)]
    candidates = [Candidate("base", "t", "baseline", None, -1, 0, 0, None)]
    candidates += [Candidate(f"c{s}", "t", "edit", f"e{s}", s, 0, 0, None) for s in (0, 1)]
    trials = [
        trial("base", {"q": -4.0, "r": -3.0}, {"q": [-4.0, -5.0], "r": [-3.0]}),
        trial("c0", {"q": -1.0, "r": -1.0}, {"q": [-1.0, -2.0], "r": [-1.0]}),
        trial("c1", {"q": -2.0, "r": -2.0}, {"q": [-4.0, -5.0], "r": [-3.0]}),
    ]
    verdicts = [Verdict(c.id, q, "lexical", False, 0.0) for c in candidates for q in "qr"]
    return edits, candidates, trials, verdicts


def test_a_contrast_sees_through_what_training_does_to_any_answer() -> None:
    edits, candidates, trials, verdicts = on_paper()
    by_likelihood = rewards(edits, candidates, trials, verdicts, section=GradingSection(reward="likelihood"))
    assert max(by_likelihood.rewards, key=lambda r: r.value.mean).edit == "e0"
    by_token, by_answer = (GradingSection(reward="contrast", contrast=by) for by in ("token", "answer"))
    for section, gain in ((by_token, 1.5), (by_answer, 3.0)):  # answers have two tokens
        by_contrast = rewards(edits, candidates, trials, verdicts, section=section)
        assert max(by_contrast.rewards, key=lambda r: r.value.mean).edit == "e1"
        assert {r.edit: r.raw.mean for r in by_contrast.rewards} == pytest.approx({"e0": 0.0, "e1": gain})
        assert by_contrast.measure == "contrast"


def test_per_answer_the_accepted_answer_that_gained_most_counts_and_per_token_the_likeliest() -> None:
    _, candidates, trials, verdicts = on_paper()

    def with_long_answer(t: Trial, logprob: float) -> Trial:
        return replace(t, likelihoods=(*t.likelihoods, Likelihood("q", 1, logprob, 10)))

    trials = [with_long_answer(t, value) for t, value in zip(trials, (-60.0, -60.0, -40.0), strict=True)]
    whole, token = (
        {m.edit: m.apart["q"] for m in measure(candidates, trials, verdicts, "lexical", whole=w) if m.edit}
        for w in (True, False)
    )
    assert whole["e1"] == pytest.approx(20.0) and token["e1"] == pytest.approx(2.0)


def test_a_blend_is_of_the_contrast_where_there_are_wrong_answers_and_else_of_the_likelihood() -> None:
    edits, candidates, trials, verdicts = on_paper()
    taken, none = (config_file.load("builtin:quickstart", [f"domain.distractors={n}"]).grading for n in (8, 0))
    blended = rewards(edits, candidates, trials, verdicts, section=taken)
    assert max(blended.rewards, key=lambda r: r.value.mean).edit == "e1"
    by_likelihood = rewards(edits, candidates, trials, verdicts, section=none)
    assert max(by_likelihood.rewards, key=lambda r: r.value.mean).edit == "e0"
    assert (taken.blend_of, none.blend_of) == ("contrast", "likelihood")


def test_a_task_without_wrong_answers_among_others_that_have_some_is_judged_by_accuracy_alone() -> None:
    edits, candidates, trials, verdicts = on_paper()
    edits += [replace(e, id=f"{e.id}u", task="u") for e in edits]
    candidates += [replace(c, id=f"{c.id}u", task="u", edit=c.edit and f"{c.edit}u") for c in candidates]
    trials += [replace(t, candidate=f"{t.candidate}u", task="u", distractors=()) for t in trials]
    verdicts += [replace(v, candidate=f"{v.candidate}u") for v in verdicts]
    right = {("c1", "q"), ("c0u", "q"), ("c0u", "r")}
    verdicts = [replace(v, correct=(v.candidate, v.question) in right) for v in verdicts]

    def of(*tasks: str) -> RoundRewards:
        section = GradingSection(blend_of="contrast")
        own = [t for t in trials if t.task in tasks]
        return rewards([e for e in edits if e.task in tasks], candidates, own, verdicts, section=section)

    both = {r.edit: r.raw.mean for r in of("t", "u").rewards}
    assert (both["e0u"], both["e1u"]) == (1.0, 0.0)
    assert both["e1"] > both["e0"]
    assert of("t", "u").scale == of("t").scale != 1.0, "a task that has no blend says nothing of its scale"
    assert {r.edit: r.raw.mean for r in of("u").rewards} == {"e0u": 1.0, "e1u": 0.0}, "a race of its own decides alike"


def test_a_run_from_before_a_default_changed_goes_on_as_it_began() -> None:
    now = config_file.load("jobs/squad-3b.yaml")
    record = now.model_dump(mode="json")
    assert (record["domain"]["distractors"], record["grading"]["blend_of"]) == (8, "contrast")
    record["domain"]["distractors"] = 0
    record["grading"]["blend_of"] = "likelihood"
    record["grading"].pop("contrast")
    begun = config_file.as_begun(now, record).model_dump(mode="json")
    values = (begun["domain"]["distractors"], begun["grading"]["blend_of"], begun["grading"]["contrast"])
    assert values == (0, "likelihood", "token")
    assert not differences(config_file.resolved(record).model_dump(mode="json"), begun)
    asked = config_file.as_begun(config_file.load("jobs/squad-3b.yaml", ["domain.distractors=4"]), record)
    assert asked.model_dump()["domain"]["distractors"] == 4, "what is asked for is not passed over"
    gone = {**now.model_dump(mode="json"), "domain": {**record["domain"], "distractors": 4}}
    assert differences(config_file.resolved(gone).model_dump(mode="json"), config_file.as_begun(now, gone).model_dump())
    for job in ("squad-3b", "arc-tiny", "gsm8k-7b"):
        own = config_file.load(f"jobs/{job}.yaml")
        assert config_file.as_begun(own, own.model_dump(mode="json")) == own


def test_without_a_baseline_or_a_distractor_there_is_no_contrast_and_no_zero() -> None:
    edits, candidates, trials, verdicts = on_paper()
    alone = measure(candidates, trials[1:], verdicts, "lexical")
    assert all(m.contrast is None for m in alone)
    bare = [Trial(t.candidate, t.task, likelihoods=t.likelihoods) for t in trials]
    assert all(m.contrast is None for m in measure(candidates, bare, verdicts, "lexical"))
    worth = rewards(edits, candidates, bare, verdicts, section=GradingSection(reward="contrast"))
    assert worth.measure != "contrast" and any("contrast" in note for note in worth.notes)
    assert "contrast" not in worth.reliability


def test_a_contrast_without_wrong_answers_to_take_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"domain\.distractors"):
        config_file.load("builtin:quickstart", ["grading.reward=contrast"])
    config_file.load("builtin:quickstart", ["grading.reward=contrast", "domain.distractors=8"])


def rewarded(task: str, pairs: list[tuple[float, float]]) -> list[Reward]:
    return [
        Reward(f"{task}{n}", task, n, Estimate(v, 0), Estimate(v, 0), Estimate(accuracy, 0))
        for n, (v, accuracy) in enumerate(pairs)
    ]


def test_a_reward_agrees_with_accuracy_where_it_ranks_a_tasks_edits_alike_whatever_differs_between_tasks() -> None:
    alike = rewarded("a", [(0.0, 0.1), (1.0, 0.3)]) + rewarded("b", [(-9.0, 0.7), (-8.0, 0.9)])
    assert agrees(alike) == (1.0, 4)
    against = rewarded("a", [(0.0, 0.3), (1.0, 0.1)]) + rewarded("b", [(9.0, 0.1), (9.5, 0.0)])
    assert agrees(against)[0] == pytest.approx(-1, abs=0.1)
    assert agrees(rewarded("a", [(0.0, 0.5), (1.0, 0.5)])) == (None, 2)


def test_a_reward_that_moves_against_accuracy_is_told() -> None:
    edits, candidates, trials, verdicts = [], [], [], []
    for task in "abcdef":
        candidates.append(Candidate(f"{task}-", task, "baseline", None, -1, 0, 0, None))
        trials.append(Trial(f"{task}-", task, likelihoods=(Likelihood("q", 0, -8.0, 2),)))
        for slot in range(2):
            edits.append(Edit(f"{task}{slot}", task, slot, "v", 0, (), (), (), f"{task} {slot}", "stop"))
            candidates.append(Candidate(f"{task}{slot}", task, "edit", f"{task}{slot}", slot, 0, 0, None))
            trials.append(Trial(f"{task}{slot}", task, likelihoods=(Likelihood("q", 0, -2.0 - slot, 2),)))
            verdicts.append(Verdict(f"{task}{slot}", "q", "lexical", slot == 1, float(slot)))
        verdicts.append(Verdict(f"{task}-", "q", "lexical", False, 0.0))
    worth = rewards(edits, candidates, trials, verdicts, section=GradingSection(reward="likelihood"))
    assert worth.agreement == -1.0 and any("against accuracy" in note for note in worth.notes)
    worth = rewards(edits, candidates, trials, verdicts, section=GradingSection(reward="accuracy"))
    assert worth.agreement == 1.0 and not any("against accuracy" in note for note in worth.notes)
