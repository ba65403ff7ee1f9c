"""What each algorithm teaches, shown on a tiny model by one process; DeepSpeed has tests of its own."""

import dataclasses
import math

import pytest
import torch
from tiny_policy import SECTION, engine, everything, lessons_of, rise

from seal_ray.config import PolicySection
from seal_ray.errors import DataError
from seal_ray.policy.in_bank import in_bank
from seal_ray.policy.learner import pack
from seal_ray.policy.lessons import Lesson, LessonText, lesson_text
from seal_ray.policy.losses import Size, loss, policy_gradient, preference, size
from seal_ray.policy.schedule import learning_rate
from seal_ray.policy.training import Training


def taught(algorithm: str, sign: float) -> tuple[list[float], list[float]]:
    """How much likelier the good and the bad edits became."""
    training = Training(engine(), SECTION, lessons_of(algorithm, sign), (), seed=1)
    before = training.scan(everything(), lambda: None).likelihood()
    training.reference = training.scan(training.lessons, lambda: None).logprobs
    training.run(lambda log: None, lambda: None, lambda epoch, found: None, lambda step: None)
    after = training.scan(everything(), lambda: None).likelihood()
    return rise(before, after, "good"), rise(before, after, "bad")


@pytest.mark.parametrize("algorithm", ["rest_em", "weighted", "pairs", "grpo"])
def test_an_update_makes_the_better_edits_likelier_and_not_the_others(algorithm: str) -> None:
    good, bad = taught(algorithm, 1.0)
    assert min(good) > 0.1 and max(bad) < min(good) / 5, (good, bad)  # what is not taught hardly moves


@pytest.mark.parametrize("algorithm", ["rest_em", "weighted", "pairs", "grpo"])
def test_with_the_sign_of_the_rewards_flipped_it_teaches_the_opposite(algorithm: str) -> None:
    good, bad = taught(algorithm, -1.0)
    assert min(bad) > 0.1 and max(good) < min(bad) / 5, (good, bad)


def test_the_loss_of_a_batch_is_the_sum_over_any_cut_of_it() -> None:
    lessons = lessons_of("grpo")
    whole = size(lessons)
    assert whole == Size(4, 48)
    logprobs = {x.edit: torch.full((len(x.text.ids),), -6.0 + i / 10) for i, x in enumerate(lessons)}
    before = {x.edit: torch.full((len(x.text.ids),), -6.0) for x in lessons}
    parts = [float(loss(x, [logprobs[x.edit]], [before[x.edit]], whole, SECTION)) for x in lessons]
    halves = [sum(parts[:2]), sum(parts[2:])]
    assert sum(halves) == pytest.approx(sum(parts))
    alone_parts = [float(loss(x, [logprobs[x.edit]], [before[x.edit]], size([x]), SECTION)) for x in lessons]
    assert sum(parts) == pytest.approx(sum(alone_parts) / 4)


def test_preference_starts_at_log_2_and_falls_as_the_better_text_gains() -> None:
    here, there = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5])
    assert float(preference(here, there, here, there, 0.1)) == pytest.approx(math.log(2))
    assert float(preference(here + 1, there, here, there, 0.1)) < math.log(2)
    assert float(preference(here, there + 1, here, there, 0.1)) > math.log(2)


def test_the_policy_gradient_stops_where_the_ratio_has_moved_enough() -> None:
    start = torch.tensor([-2.0])
    for moved, advantage, pushes in ((0.0, 1.0, True), (0.5, 1.0, False), (-0.5, 1.0, True), (-0.5, -1.0, False)):
        now = (start + moved).requires_grad_()
        policy_gradient(now, start, start, advantage, clip=0.2, beta=0.0).backward()
        assert now.grad is not None and bool(now.grad.abs() > 0) is pushes, (moved, advantage)


def test_the_configured_clip_says_where_the_ratio_has_moved_enough() -> None:
    (lesson,) = (x for x in lessons_of("grpo") if x.edit == "good0")
    before = torch.full((len(lesson.text.ids),), -6.0)
    for clip, pushes in ((0.2, False), (0.9, True)):  # exp(0.5) is 1.65
        now = (before + 0.5).requires_grad_()
        section = PolicySection(ratio_clip=clip, beta=0)
        loss(lesson, [now], [before], Size(1, 12), section).backward()
        assert now.grad is not None and bool(now.grad.abs().sum() > 0) is pushes, clip


@pytest.mark.parametrize("algorithm", ["pairs", "grpo"])
def test_leaving_the_start_counts_as_much_as_the_configured_beta_says(algorithm: str) -> None:
    lesson = next(x for x in lessons_of(algorithm) if x.edit == "good0")
    before = [torch.full((len(text.ids),), -6.0) for text in lesson.texts]
    now = [before[0] + 0.5, *before[1:]]  # the better text has gained half a nat a token
    losses = {b: float(loss(lesson, now, before, Size(1, 12), PolicySection(beta=b))) for b in (0.1, 0.5)}
    if algorithm == "pairs":
        told = {beta: value / lesson.weight for beta, value in losses.items()}
        assert told == pytest.approx({beta: math.log1p(math.exp(-beta * 6)) for beta in losses})
    else:
        assert losses[0.5] - losses[0.1] == pytest.approx(0.4 * (math.exp(-0.5) + 0.5 - 1), rel=1e-4)


@pytest.mark.parametrize(("clip", "taken"), [(0.5, 0.5), (0, 8.0)])
def test_gradients_are_clipped_as_configured(clip: float, taken: float) -> None:
    tiny = engine(SECTION.model_copy(update={"clip": clip}))
    count = sum(weight.numel() for weight in tiny._trained)
    for weight in tiny._trained:
        weight.grad = torch.full_like(weight, 8 / count**0.5)
    assert tiny.step(0.1) == pytest.approx(8, rel=1e-3)
    moments = [tiny._optimizer.state[master]["exp_avg"].flatten() for master in tiny._masters]
    assert float(torch.cat(moments).norm()) == pytest.approx(0.1 * taken, rel=1e-3)  # Adam keeps a tenth of the first


def test_weights_decay_as_configured() -> None:
    tiny = engine(SECTION.model_copy(update={"weight_decay": 0.25}))
    before = [weight.detach().clone() for weight in tiny._trained]
    for weight in tiny._trained:
        weight.grad = torch.zeros_like(weight)
    tiny.step(0.1)
    assert any(weight.any() for weight in before)
    for was, weight in zip(before, tiny._trained, strict=True):
        assert torch.allclose(weight.detach(), was * (1 - 0.1 * 0.25))


def test_the_bank_clips_and_decays_what_an_update_would_as_configured() -> None:
    section = SECTION.model_copy(update={"clip": 0.5, "weight_decay": 0.25})
    recipe = in_bank(lessons_of("rest_em"), section, 1).recipe
    assert (recipe.clip, recipe.weight_decay) == (0.5, 0.25)


def test_what_the_sampler_saw_differently_is_corrected_for_but_not_without_bound() -> None:
    start = torch.tensor([-2.0])
    plain = float(policy_gradient(start, start, start, 1.0, 0.2, 0.0))
    assert plain == pytest.approx(-1.0)
    assert float(policy_gradient(start, start, start - 0.1, 1.0, 0.2, 0.0)) == pytest.approx(-math.exp(0.1))
    assert float(policy_gradient(start, start, start - 5, 1.0, 0.2, 0.0)) == pytest.approx(-2.0)


def test_texts_in_one_row_do_not_see_each_other() -> None:
    texts = [LessonText((5, 6, 7), tuple(range(40 + 3 * i, 48 + 3 * i))) for i in range(3)]
    tiny = engine()
    with torch.no_grad():
        together = tiny.forward(pack(texts))[0].split([8, 8, 8])
        for text, found in zip(texts, together, strict=True):
            assert torch.allclose(tiny.forward(pack([text]))[0], found, atol=1e-5)
        swapped = tiny.forward(pack([LessonText((9, 9), (300,) * 9), *texts[1:]]))[0].split([9, 8, 8])
        assert torch.allclose(swapped[2], together[2], atol=1e-5), "a neighbour leaks into a text"


def test_only_the_completion_carries_loss() -> None:
    row = pack([LessonText((5, 6, 7), (40, 41))])
    assert row.targets.tolist() == [40, 41] and row.keep.tolist() == [2, 3]


def test_a_loss_that_is_not_a_number_names_step_and_edit() -> None:
    lessons = lessons_of("rest_em")
    lessons[1] = dataclasses.replace(lessons[1], weight=math.nan)
    training = Training(engine(), SECTION, lessons, (), seed=1)
    training.reference = training.scan(lessons, lambda: None).logprobs
    with pytest.raises(DataError, match=r"step 1 .*edit good1 of task t1"):
        training.run(lambda log: None, lambda: None, lambda epoch, found: None, lambda step: None)


def test_an_update_that_goes_on_after_a_step_has_measured_every_epoch() -> None:
    section, steps = SECTION.model_copy(update={"epochs": 2, "global_batch": 2}), []
    lessons = lessons_of("rest_em")
    training = Training(engine(section), section, lessons[:1], lessons[1:], seed=1)
    training.reference = training.scan(training.lessons, lambda: None).logprobs
    measured: dict[int, float] = {}

    def lost(step: int) -> None:
        steps.append(step)
        if len(steps) == 1:
            raise ConnectionError("the worker is lost right after its checkpoint")

    with pytest.raises(ConnectionError):
        training.run(lambda log: None, lambda: None, measured.__setitem__, lost)
    training.run(lambda log: None, lambda: None, measured.__setitem__, lost, first=steps[0])
    assert sorted(measured) == [1, 2] and len(training.batches) == 2


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [0.5, 1, 1, 1]), ("linear", [0.5, 1, 1, 0.5]), ("cosine", [0.5, 1, 1, 0.5])],
)
def test_the_learning_rate_warms_up_and_then_follows_the_schedule(schedule: str, expected: list[float]) -> None:
    section = PolicySection(lr=1.0, schedule=schedule, warmup=0.5)  # type: ignore[arg-type]
    assert [learning_rate(i, 4, section) for i in range(4)] == pytest.approx(expected)


def test_no_step_has_a_learning_rate_of_nothing() -> None:
    for schedule in ("constant", "linear", "cosine"):
        assert learning_rate(0, 1, PolicySection(schedule=schedule)) > 0  # type: ignore[arg-type]


def test_a_text_without_a_prompt_is_learned_from_its_second_token_on() -> None:
    text = lesson_text((), (5, 6, 7, 8), (-1.0, -2.0, -3.0, -4.0))
    assert text == LessonText((5,), (6, 7, 8), (-2.0, -3.0, -4.0))
    assert pack([text]).targets.tolist() == [6, 7, 8]
    training = Training(engine(), SECTION, [Lesson("e", "t", lesson_text((), range(40, 60)))], (), seed=1)
    training.reference = training.scan(training.lessons, lambda: None).logprobs
    losses: list[float] = []
    training.run(lambda log: losses.append(log.loss), lambda: None, lambda epoch, found: None, lambda step: None)
    assert losses[-1] < losses[0]


def test_a_probe_of_prompts_measures_drift_where_nothing_was_learned() -> None:
    probe = [lesson_text((), range(start, start + 16)) for start in (100, 300)]
    assert [t.tokens for t in probe] == [16, 16]
    training = Training(engine(), SECTION, lessons_of("rest_em"), (), seed=1)
    training.reference = training.scan(training.lessons, lambda: None).logprobs
    asked = [Lesson("", "", text) for text in probe]
    assert training.drift(asked, lambda: None) == 0
    training.run(lambda log: None, lambda: None, lambda epoch, found: None, lambda step: None)
    away, learned = training.drift(asked, lambda: None), training.drift(training.lessons, lambda: None)
    assert 0 < away < learned, "what was learned moves the lessons' own texts the most"
