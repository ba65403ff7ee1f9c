"""From trials and verdicts to rewards: what counts, what is left out, and how sure it is."""

import json

import pytest
from reward_rounds import LOST, PaperRound, simulated

from seal_ray.grading.measure import measure, question_likelihoods
from seal_ray.records import Likelihood, Trial, Verdict, encode


def test_a_reward_is_the_gain_over_the_tasks_baseline() -> None:
    found = PaperRound()
    found.trial("t", -1, [1, 0, 0, 0])
    for repeat, right in enumerate(([1, 1, 1, 0], [1, 1, 0, 0])):
        found.trial("t", 0, right, repeat=repeat)
        found.trial("t", 1, [0, 0, 0, 0], repeat=repeat)
    worth = found.worth()
    best, worst = worth.rewards
    assert best.raw.mean == pytest.approx(0.625 - 0.25)
    assert worst.raw.mean == pytest.approx(-0.25)
    assert best.accuracy is not None
    assert (best.accuracy.mean, best.accuracy.n) == (pytest.approx(0.625), 2)
    assert best.value.error > 0
    assert worth.arms["base"]["accuracy"].mean == 0.25  # pyright: ignore[reportOptionalMemberAccess]
    assert worth.arms["edit"]["accuracy"].mean == pytest.approx(0.3125)  # pyright: ignore[reportOptionalMemberAccess]
    assert json.dumps(encode(worth)), "it goes to the ledger"


def test_failed_trials_are_left_out_and_never_a_zero() -> None:
    whole, holed = PaperRound(), PaperRound()
    for found in (whole, holed):
        found.trial("t", -1, [0, 0])
        for slot in (0, 1):
            found.trial("t", slot, [1, 1], repeat=0)
            found.trial("t", slot, [1, 1], repeat=1)
    holed.trial("t", 0, [0, 0], repeat=2, lost=True)
    holed.trial("t", 2, lost=True)
    assert [(r.slot, r.raw.mean) for r in holed.worth().rewards] == [
        (r.slot, r.raw.mean) for r in whole.worth().rewards
    ]
    assert [r.slot for r in holed.worth().rewards] == [0, 1], "an edit whose trials all failed has no reward"


def test_a_failed_verdict_is_not_a_wrong_answer() -> None:
    found = PaperRound()
    found.trial("t", -1, [0, 0, 0, 0])
    found.trial("t", 0, [1, 1, 1, 1], repeat=0)
    found.trial("t", 0, [1, 1, 1, None], repeat=1)
    found.trial("t", 0, [1, None, None, None], repeat=2)
    (reward,) = found.worth().rewards
    assert reward.raw.mean == pytest.approx(1.0, abs=0.15)
    assert reward.raw.n == 2, "a trial of which most verdicts are missing does not count"


def test_questions_that_one_trial_lacks_are_as_hard_for_it_as_for_the_others() -> None:
    """The lost verdict is on a question that all others get wrong: without correction the trial would gain by it."""
    found = PaperRound()
    for slot in range(3):
        found.trial("t", slot, [1, 0, 0] if slot else [1, 0, None])
    values = {m.edit: m.accuracy for m in measure(found.candidates, found.trials, found.verdicts, "lexical")}
    assert values["t/0"] == pytest.approx(values["t/1"])


def test_a_task_without_its_baseline_gives_no_rewards_and_says_so() -> None:
    found = PaperRound()
    found.trial("t", -1, lost=True)
    found.trial("t", 0, [1])
    worth = found.worth()
    assert worth.rewards == ()
    assert worth.notes == ("t: its baseline has no accuracy, so its edits have no reward",)


def test_one_question_and_one_repeat_say_nothing_of_chance_and_that_is_said() -> None:
    alone, more = PaperRound(), PaperRound()
    for found, right in ((alone, [1]), (more, [1, 0])):
        for slot in (-1, 0, 1):
            found.trial("t", slot, right if slot else [0] * len(right))
    assert more.worth().notes == ()
    (note,) = alone.worth().notes
    assert note.startswith("1 of 1 tasks have one question") and "raise inner.repeats" in note
    assert [r.value.error for r in alone.worth().rewards] == [0.0, 0.0]
    alone.trial("t", 0, [0], repeat=1)
    alone.trial("t", 1, [1], repeat=1)
    assert alone.worth().notes == (), "a second repeat tells"


def test_what_a_tasks_only_edit_is_worth_is_as_sure_as_its_own_repeats() -> None:
    found = PaperRound()
    for task in ("one", "two"):
        found.trial(task, -1, [0])
        for repeat, right in enumerate((1, 0, 1)):
            found.trial(task, 0, [right], repeat=repeat)
    worth = found.worth()
    assert [r.raw.n for r in worth.rewards] == [3, 3] and worth.notes == ()
    for reward, standing in zip(worth.rewards, worth.standings, strict=True):
        assert standing.noise == pytest.approx(1 / 3) and reward.raw.error == pytest.approx(1 / 3)
        assert reward.value.error > 0 and standing.error > 0
    once = PaperRound()
    once.trial("t", -1, [0])
    once.trial("t", 0, [1])
    (note,) = once.worth().notes
    assert note.startswith("1 of 1 tasks have one question"), "of an edit that was tried once it is not known"


def test_without_repeats_a_likelihoods_error_is_measured_in_likelihoods() -> None:
    def errors(times: float) -> list[float]:
        found = PaperRound()
        for slot, right, likely in ((-1, [0, 0], [-3, -3]), (0, [1, 0], [-2.0, -2.2]), (1, [0, 1], [-2.3, -2.4])):
            found.trial("t", slot, right, [times * value for value in likely])
        return [r.value.error for r in found.worth("likelihood").rewards]

    assert 0 < errors(1)[0] < 0.1, "the questions hardly differ in likelihood, however they do in being right"
    assert errors(10) == pytest.approx([10 * error for error in errors(1)])


def test_where_no_trial_has_anything_a_reward_by_contrast_is_no_error() -> None:
    found = PaperRound()
    assert found.worth("contrast").rewards == ()
    for slot in (-1, 0):
        found.trial("t", slot, lost=True)
    assert found.worth("contrast").rewards == ()


def test_nothing_at_all_is_no_error() -> None:
    worth = PaperRound().worth()
    assert worth.rewards == ()
    assert set(worth.reliability.values()) == {None}
    assert worth.diversity is None


def test_the_best_accepted_answer_counts_for_the_likelihood() -> None:
    trial = Trial(
        "c", "t", likelihoods=(Likelihood("q", 0, 0, 0), Likelihood("q", 1, -8.0, 4), Likelihood("q", 2, -6.0, 2))
    )
    assert question_likelihoods(trial) == {"q": -2.0}


def test_the_configured_graders_verdicts_count_where_there_are_several() -> None:
    found = PaperRound()
    found.trial("t", -1, [0, 0])
    found.trial("t", 0, [1, 1])
    found.verdicts += [Verdict("t/0/0", f"q{n}", "judge", False, 0.0) for n in range(2)]
    assert found.worth().rewards[0].raw.mean == 1
    assert found.worth(grader="judge").rewards[0].raw.mean == 0
    assert found.worth(grader="exact").rewards, "a domain's own grader counts where the configured one said nothing"


def test_first_records_count() -> None:
    found = PaperRound()
    found.trial("t", -1, likely=[-2.0])
    found.trial("t", 0, likely=[-1.0])
    found.trials.append(Trial("t/0/0", "t", likelihoods=(Likelihood("q0", 0, -9.0, 1),)))
    assert found.worth("likelihood").rewards[0].raw.mean == pytest.approx(1.0)


def test_the_blend_puts_both_measures_on_one_scale() -> None:
    found = PaperRound()
    found.trial("t", -1, [0, 0], [-4.0])
    for repeat in range(2):
        found.trial("t", 0, [1, 0], [-3.0], repeat=repeat)
        found.trial("t", 1, [0, 0], [-1.0], repeat=repeat)
    by_share = {share: [r.raw.mean for r in found.worth("blend", blend=share).rewards] for share in (0.0, 0.5, 1.0)}
    assert by_share[0.0] == pytest.approx([0.5, 0.0])
    scale = 0.5 / 2.0  # the spreads of the two measures over the trials
    assert by_share[1.0] == pytest.approx([1 * scale, 3 * scale])
    assert by_share[0.5] == pytest.approx([(0.5 + 0.25) / 2, 0.75 / 2])


def test_without_likelihoods_a_blend_falls_back_to_accuracy_and_says_so() -> None:
    found = PaperRound()
    found.trial("t", -1, [0])
    found.trial("t", 0, [1])
    worth = found.worth("blend")
    assert (worth.measure, worth.rewards[0].raw.mean) == ("accuracy", 1)
    assert "no trial has a blend" in worth.notes[0]


def test_the_order_of_records_makes_no_difference() -> None:
    found = simulated(6, 4, 3, 0.5, 1.0, 0.2, seed=6)
    one = found.worth("likelihood")
    found.candidates.reverse()
    found.trials.reverse()
    found.edits = dict(reversed(found.edits.items()))
    other = found.worth("likelihood")
    assert [r.edit for r in one.rewards] == [r.edit for r in other.rewards]
    assert [r.value.mean for r in one.rewards] == pytest.approx([r.value.mean for r in other.rewards])


def test_the_rubric_rewards_edits_without_a_trial() -> None:
    found = PaperRound()
    for slot, scores in enumerate(((1.0, 0.5), (0.25, 0.25))):
        name = found.edit("t", slot)
        found.verdicts += [Verdict(name, str(n), "rubric", None, s) for n, s in enumerate(scores)]
    found.edit("t", 2)
    found.verdicts.append(Verdict("t/2", "rubric", "rubric", None, None, LOST))
    worth = found.worth("rubric")
    assert [(r.slot, r.value.mean) for r in worth.rewards] == [(0, 0.75), (1, 0.25)]
    assert worth.measure == "rubric"
    assert "t/2" in worth.notes[0]
