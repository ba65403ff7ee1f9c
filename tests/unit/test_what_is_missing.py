"""What an evaluation, a study or a stream lacks is found before its first hour, and before anything is written."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.domains import configured as domain_of
from seal_ray.errors import ConfigError, DataError, Missing, SealError
from seal_ray.events import Warned
from seal_ray.loops import evaluation, rounds, stream, study
from seal_ray.policy import versions
from seal_ray.records import Version, encode
from seal_ray.storage.ledger import Ledger

BASE = "b" * 64


class Letters:
    """A tokenizer whose tokens are letters."""

    eos_token_id = 0

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [min(ord(letter), 127) for letter in text]}


class Opening:
    """A session at the moment when it asks whether the run may begin. Nothing is open, and nothing is there yet."""

    folder: str  # of the model

    def __init__(self, config: Config, *, check: Any = lambda session: None, **_: Any) -> None:
        self.config, self.base, self.tokenizer = config, BASE, Letters()
        self.domain = domain_of(config)
        self.borrow = lambda version, _: version
        check(self)
        raise AssertionError("the run would begin")


@pytest.fixture(autouse=True)
def opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    sizes = {"vocab_size": 128, "max_position_embeddings": 4096}
    (tmp_path / "model/config.json").write_text(json.dumps(sizes))
    monkeypatch.setattr(Opening, "folder", str(tmp_path / "model"), raising=False)
    for loop in (evaluation, rounds, study, stream):
        monkeypatch.setattr(loop, "Session", Opening)


def configured(tmp_path: Path, *changes: str) -> Config:
    given = [f"run.uri={tmp_path / 'run'}", "domain.data=builtin:quickstart", "study.steps=2", *changes]
    return config_file.parse("", "test", given)


def run_of(folder: Path, base: str) -> str:
    """A run whose first round made version 1 of this base model."""
    ledger = Ledger(str(folder))
    ledger.create(config_file.parse("", "test", [f"run.uri={folder}"]).model_dump(mode="json"), {}, 0)
    ledger.acquire("test")
    part, first = ledger.round(1), versions.first(base)
    made = Version(1, "a" * 64, base, first.digest, "rounds/0001/version", "adapter", 4)
    part.put("tasks.json", {"tasks": [], "version": encode(first)})
    part.put("update.json", {"version": encode(made)})
    part.commit({"version": encode(made), "decision": "accept"})
    ledger.close()
    return str(folder)


def refused(config: Config, arm: str, *, before: Any = ()) -> list[str]:
    """What is said of an arm that stands last, by each loop that takes one."""
    said = []
    arms = [*before, arm]
    of_study = config.model_copy(update={"study": config.study.model_copy(update={"arms": tuple(arms)})})
    of_stream = config.model_copy(update={"study": config.study.model_copy(update={"texts": arm})})
    for begin in (
        lambda: evaluation.evaluate(config, arms, split="train"),
        lambda: study.study(of_study),
        lambda: stream.stream(of_stream),
    ):
        with pytest.raises((ConfigError, DataError, Missing)) as error:
            begin()
        said.append(str(error.value))
    return said


def test_a_version_that_is_not_there_or_of_another_model_is_named_before_the_first_arm(tmp_path: Path) -> None:
    uri, other = run_of(tmp_path / "mine", BASE), run_of(tmp_path / "other", "c" * 64)
    config = configured(tmp_path)
    for arm, why in (
        (f"version:{uri}#7", "has no version 7"),
        (f"version:{tmp_path}/nowhere#1", "there is no run at"),
        (f"version:{other}#1", "stands on another base model"),
    ):
        assert all(why in said for said in refused(config, arm, before=["context"])), arm
    assert not (tmp_path / "run").exists()
    with pytest.raises(AssertionError, match="would begin"):
        stream.stream(configured(tmp_path, f"study.texts=version:{uri}#1"))


def test_a_file_without_the_edits_and_a_teacher_without_a_model_are_named_before_the_first_arm(tmp_path: Path) -> None:
    (tmp_path / "few.json").write_text(json.dumps([{"task": "somebody else's", "notes": "a text"}]))
    config = configured(tmp_path)
    for arm, why in (
        (f"file:{tmp_path}/few.json#notes", "no edits under 'notes' for task"),
        (f"file:{tmp_path}/none.json#notes", "none.json"),
        ("teacher:http://localhost:1/v1", "no endpoint and model"),
    ):
        assert all(why in said for said in refused(config, arm, before=["context"])), arm


def test_what_is_no_arm_of_a_study_is_said_before_a_model_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetched(*_: Any, **__: Any) -> Any:
        raise AssertionError("a session was opened")

    for loop in (study, stream):
        monkeypatch.setattr(loop, "Session", fetched)
    for name, why in (("best", "no such arm"), ("joined:untrained", "joins all that it has")):
        with pytest.raises(ConfigError, match=why):
            study.study(configured(tmp_path, f"study.arms=[context, '{name}']"))
        with pytest.raises(ConfigError, match=why):
            stream.stream(configured(tmp_path, f"study.texts={name}"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (["study.split=test", "domain.test=0"], "study.split: test has no tasks"),
        (["study.skills=nowhere.json"], "nowhere.json"),
    ],
)
def test_a_study_that_lacks_tasks_or_skills_writes_nothing(tmp_path: Path, changes: list[str], why: str) -> None:
    with pytest.raises(SealError, match=why):
        study.study(configured(tmp_path, *changes))
    assert not (tmp_path / "run").exists()


def test_a_stream_of_more_tasks_than_there_are_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="100 steps of 1 tasks want 100"):
        stream.stream(configured(tmp_path, "study.steps=100"))
    with pytest.raises(ConfigError, match="advance together in a bank only"):
        stream.stream(configured(tmp_path, "policy.mode=full", "study.sequences=2"))


def test_runs_that_a_model_of_gain_can_not_be_had_of_are_named_before_the_first_round(tmp_path: Path) -> None:
    mine, other = run_of(tmp_path / "mine", BASE), run_of(tmp_path / "other", "c" * 64)
    for uri, why in ((f"{tmp_path}/nowhere", r"gain_runs: there is no run at"), (other, "was made with another model")):
        with pytest.raises(ConfigError, match=why):
            rounds.run(configured(tmp_path, "inner.prune=0.5", f"grading.gain_runs=[{mine}, {uri}]"))
    with pytest.raises(AssertionError, match="would begin"):
        rounds.run(configured(tmp_path, "inner.prune=0.5", f"grading.gain_runs=[{mine}]"))


def test_a_study_says_that_it_has_no_earlier_steps_to_keep(tmp_path: Path) -> None:
    def told(*changes: str, latest: int = 0) -> list[Any]:
        heard: list[Any] = []
        ledger = SimpleNamespace(latest=lambda: latest)
        config = configured(tmp_path, *changes)
        study._warn_of_keeping(SimpleNamespace(config=config, ledger=ledger, tell=heard.append))  # type: ignore[arg-type]
        return heard

    (warned,) = told("study.keep.method=replay")
    assert isinstance(warned, Warned) and "replay" in warned.message and "seal-ray stream" in warned.message
    assert not told("study.keep.method=replay", latest=1)
    assert not told("study.keep.method=last_layers") and not told()


def test_a_stream_says_that_its_steps_pass_no_gate(tmp_path: Path) -> None:
    heard: list[Any] = []
    for mode in ("off", "auto"):
        session: Any = SimpleNamespace(config=configured(tmp_path, f"gate.mode={mode}"), tell=heard.append)
        stream._warn_of_gate(session)
    (warned,) = heard
    assert isinstance(warned, Warned) and warned.message.startswith("gate.mode: auto changes nothing here")


def test_a_passage_that_is_too_long_to_be_learned_is_named_before_the_first_step(tmp_path: Path) -> None:
    rows = [
        {
            "title": f"Town {n}",
            "context": "A town. " * n,
            "questions": [{"question": "What is it?", "answer": "A town"}],
        }
        for n in (3, 4, 90)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    given = [f"domain.data={tmp_path}/rows.json", "domain.validation=0", "domain.test=0", "study.steps=3"]
    long = [*given, "policy.max_length=400", "inner.max_length=4096"]
    named = r"task town-90-\w+ has no text that can be learned: 7\d\d tokens, and policy\.max_length is 400"
    with pytest.raises(DataError, match=named):
        stream.stream(configured(tmp_path, *long))
    with pytest.raises(DataError, match=named):
        study.study(configured(tmp_path, *long, "study.arms=[untrained, context]"))
    for begin, more in ((study.study, "study.arms=[untrained]"), (stream.stream, "policy.max_length=4096")):
        with pytest.raises(AssertionError, match="would begin"):  # what is written of a passage may be shorter
            begin(configured(tmp_path, *long, more))
