"""Settings that can't mean together what they say: refused or warned about before a run begins."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from seal_ray import cli, config_file
from seal_ray.config_checks import check, contradictions
from seal_ray.errors import ConfigError

ROOT = Path(__file__).parents[2]
ARC = "domain={name: arc, data: c.json}"
MAJORITY = [
    "domain={name: math, data: p.json, gold: majority}", "grading.grader=exact", "grading.reward=vote",
    "answering.samples=4", "answering.temperature=0.7", "answering.max_tokens=256",
]  # fmt: skip
BY_DATA = "domain={name: math, data: p.json, gold: data}"
JUDGE = ["grading.judge_url=http://localhost:1/v1", "grading.judge_model=m"]


def found(*overrides: str) -> list[str]:
    return [c.key for c in contradictions(config_file.parse("", "test", overrides))]


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        (["sampling.temperature=0"], "sampling.temperature"),
        ([ARC, "sampling.temperature=0"], "sampling.temperature"),
        (["select.algorithm=grpo", "sampling.edits=1"], "select.algorithm"),
        (["select.algorithm=pairs", "sampling.edits=1"], "select.algorithm"),
        ([ARC, "grading.grader=judge", *JUDGE], "grading.grader"),
        ([ARC, "grading.grader=cascade", *JUDGE], "grading.grader"),
        (["policy.mode=full", "policy.fresh=true"], "policy.fresh"),
        ([ARC, "inner.objective=distill"], "inner.objective"),
        (["grading.reward=predicted"], "grading.reward"),
        (["policy.targets=[q_proj, lm_head]"], "policy.targets"),
        ([*MAJORITY, "gate.mode=auto"], "gate.mode"),
        ([*MAJORITY, "gate.mode=hold", "grading.reward=accuracy"], "gate.mode"),
        ([*MAJORITY, "evaluation.every=2"], "evaluation.every"),
        ([ARC, "domain.learning_rates=[0.001, 0.02]"], "domain.learning_rates"),
        ([ARC, "domain.epoch_choices=[4, 12]"], "domain.epoch_choices"),
        ([ARC, "domain.validation=0.5", "domain.test=0.5"], "domain.test"),
        (["domain.directives={offered: true, learning_rates: [0.02]}"], "domain.directives.learning_rates"),
        (["domain.directives={offered: true, epoch_choices: [2, 30]}"], "domain.directives.epoch_choices"),
    ],
)
def test_what_would_not_do_what_is_asked_is_refused_with_its_key_and_a_hint(overrides: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{key}: .*; "):
        check(config_file.parse("", "test", overrides))


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["policy.mode=full", "policy.rank=8", "policy.targets=[q_proj]"], ["policy.rank", "policy.targets"]),
        (["domain.thought=true"], ["answering.max_tokens"]),
        (["answering.samples=4"], ["answering.samples"]),
        (["answering.top_p=0.9"], ["answering.top_p"]),
        (["inner.objective=distill", "domain.directives.offered=true"], ["inner.objective"]),
        ([ARC, "grading.reward=rubric", *JUDGE], ["grading.reward"]),
        (["inner.prune=0.5", "sampling.edits=2"], ["inner.prune"]),
    ],
)
def test_what_has_no_effect_is_warned_about(overrides: list[str], keys: list[str]) -> None:
    assert [c.key for c in check(config_file.parse("", "test", overrides))] == keys


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["sampling.temperature=0", "sampling.edits=1"],
        ["sampling.temperature=0", "domain.style=entities"],
        ["sampling.temperature=0", "domain.style=mixture", "domain.mixture={long: 1, rewrite: 1}"],
        ["sampling.temperature=0", "domain={name: capitals}"],
        ["select.algorithm=grpo", "sampling.edits=2"],
        ["select.algorithm=weighted", "sampling.edits=1"],
        ["grading.grader=judge", *JUDGE],
        [ARC, "grading.grader=exact"],
        ["policy.mode=full"],
        ["domain.thought=true", "answering.max_tokens=256"],
        ["answering.samples=4", "answering.temperature=0.7"],
        ["inner.objective=distill", "answering.temperature=0.7", "answering.top_p=0.9"],
        ["grading.reward=predicted", "grading.gain_runs=[runs/first]"],
        ["inner.prune=0.5", "sampling.edits=3"],
        [ARC, "domain.learning_rates=[0.02]", "domain.max_lr=0.02", "domain.epoch_choices=[10]"],
        ["domain.directives={learning_rates: [0.02], epoch_choices: [30]}"],
        [ARC, "domain.validation=0.5", "domain.test=0.4"],
        ["policy.targets=[q_proj]", "inner.targets=[q_proj, lm_head]"],
        MAJORITY,
        [*MAJORITY, BY_DATA, "gate.mode=auto", "evaluation.every=1"],
    ],
)
def test_what_means_what_it_says_is_left_alone(overrides: list[str]) -> None:
    assert found(*overrides) == []


@pytest.mark.parametrize("job", sorted((ROOT / "jobs").glob("*.yaml")), ids=lambda p: p.name)
def test_no_job_here_contradicts_itself(job: Path) -> None:
    assert contradictions(config_file.load(job)) == []


def test_validate_shows_the_warnings_and_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = ["validate", "jobs/tiny.yaml", "--set"]
    shown = CliRunner().invoke(cli.app, [*words, "domain.thought=true"])
    assert shown.exit_code == 0 and "warning: answering.max_tokens: 4 tokens" in shown.output
    refused = CliRunner().invoke(cli.app, [*words, "sampling.temperature=0"])
    assert isinstance(refused.exception, ConfigError) and "same edit" in str(refused.exception)
