"""A configuration says what is wrong with it: file, line, key, value and hint."""

from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from seal_ray import config_file
from seal_ray.commands.probe import configured
from seal_ray.config import ArcDomain, Config, DocumentsDomain, KnowledgeDomain, PluginDomain
from seal_ray.errors import ConfigError
from seal_ray.loops.resuming import differences

JOBS = sorted((Path(__file__).parents[2] / "jobs").glob("*.yaml"))


def problem(text: str, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config_file.parse(text, "run.yaml", overrides)
    return str(caught.value)


def test_the_template_is_the_default_configuration() -> None:
    assert config_file.parse(config_file.template()) == Config()


def test_every_field_says_what_it_is_for() -> None:
    silent = []

    def walk(model: type[BaseModel], prefix: str) -> None:
        for name, info in model.model_fields.items():
            kind = info.annotation
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                walk(kind, f"{prefix}{name}.")
            elif not info.description and name not in {"name", "domain"}:
                silent.append(prefix + name)

    for model in (Config, KnowledgeDomain, ArcDomain, PluginDomain):
        walk(model, "")
    assert not silent


@pytest.mark.parametrize("path", JOBS, ids=lambda p: p.name)
def test_every_configuration_in_jobs_is_valid(path: Path) -> None:
    config_file.load(path)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("run:\n  sed: 3\n", ["run.sed", "run.yaml line 2", "did you mean seed?"]),
        ("inner:\n  rank: 0\n", ["inner.rank", "0", "run.yaml line 2", "greater than or equal to 1"]),
        ("nonsense: 1\n", ["nonsense", "line 1", "known here", "sampling"]),
        ("domain:\n  styl: long\n", ["domain.styl", "line 2", "did you mean style?"]),
        ("domain: {name: arc}\n", ["domain.data", "required"]),
        ("domain: {validation: 0.6, test: 0.5}\n", ["domain", "0.6", "leave no tasks"]),
        ("grading: {grader: judge}\n", ["judge_url", "grader: lexical"]),
        ("placement: {min_workers: 4, max_workers: 2}\n", ["min_workers 4", "max_workers 2"]),
        ("placement: {worker_gpus: 0.4}\n", ["0.4", "does not divide"]),
        ("run: [\n", ["run.yaml line", "not YAML"]),
        ("- a\n", ["run.yaml", "no sections"]),
    ],
)
def test_a_mistake_is_named_with_its_place_and_its_mend(text: str, parts: list[str]) -> None:
    message = problem(text)
    for part in parts:
        assert part in message


def test_all_mistakes_are_named_at_once() -> None:
    message = problem("run: {seed: -1}\ninner: {rank: 0, lr: 7}\n")
    assert len(message.splitlines()) == 3


def test_an_override_wins_and_is_named_when_it_is_wrong() -> None:
    config = config_file.parse("inner: {rank: 4}\n", "run.yaml", ["inner.rank=8", "run.budget.hours=1.5"])
    assert config.inner.rank == 8
    assert config.run.budget.hours == 1.5
    assert "--set inner.rank=zero" in problem("", "inner.rank=zero")
    assert "no value" in problem("", "inner.rank")


@pytest.mark.parametrize("field", ["chat", "thinking"])
def test_a_bare_yes_or_no_is_understood(field: str) -> None:
    for word in ("yes", "no", "auto"):
        assert getattr(config_file.parse(f"model:\n  {field}: {word}\n").model, field) == word


def test_a_bare_off_is_understood_as_the_hints_write_it() -> None:
    for word in ("off", "auto", "hold"):
        assert config_file.parse(f"gate:\n  mode: {word}\n").gate.mode == word
        assert config_file.parse("", "run.yaml", [f"gate.mode={word}"]).gate.mode == word
    assert "gate.mode" in problem("gate: {mode: on}\n")


def test_a_file_that_is_not_there_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="seal-ray init"):
        config_file.load(tmp_path / "none.yaml")


def test_a_run_is_refused_when_it_was_configured_otherwise_but_for_what_may_change() -> None:
    was = Config().model_dump(mode="json")
    now = yaml.safe_load(yaml.safe_dump(was))
    now["placement"]["max_workers"] = 7
    now["run"]["rounds"] = 9
    now["run"]["budget"]["hours"] = 2.0
    assert differences(was, now) == []
    now["inner"]["rank"] = 3
    assert differences(was, now) == ["inner.rank was 32 and is 3"]


@pytest.mark.parametrize("name", ["docs-😀", "Zürich 東京", 'a "b" \\ c', "a: {b", "line\u2028end", "1", "yes"])
def test_an_assignment_gives_a_key_just_what_it_was_made_of(name: str) -> None:
    arms = ["untrained", name]
    given = [config_file.assignment("model.name", name), config_file.assignment("study.arms", arms)]
    made = config_file.parse("", overrides=given)
    assert made.model.name == name and list(made.study.arms) == arms


def test_documents_may_have_any_name() -> None:
    config = configured("my docs-😀", [])
    assert isinstance(config.domain, DocumentsDomain) and config.domain.data == "my docs-😀"
    assert config.run.uri.startswith("runs/probe-my docs-😀-")
