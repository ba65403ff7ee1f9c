"""Where a study's texts come from: written by the base, by a version of another run, by a teacher over HTTP, or read
from a file. A tiny model, its bank and its update are real; only Ray and vLLM are stood in for, by the bank."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from judge_server import JudgeReply, says, serving
from one_process_crew import OneProcessCrew
from test_study import configured, matrices
from two_versions import two_versions

from seal_ray.config import Config
from seal_ray.errors import ConfigError, InfraError, Interrupted
from seal_ray.events import Event, Warned
from seal_ray.loops import stream, study
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.loops.studying.texts import gather, source
from seal_ray.records import Edit

SAMPLED = ["sampling.top_p=1", "sampling.edits=1", "sampling.max_tokens=12", "sampling.chunk=1", "study.edits=2"]


def opened(config: Config, crew: OneProcessCrew, **more: Any) -> Session:
    return Session(config, hire=crew.hire, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def crew() -> OneProcessCrew:
    return OneProcessCrew()


def studied(config: Config, crew: OneProcessCrew, **more: Any) -> Run:
    with opened(config, crew, **more) as session:
        study.run_study(session)
    return Run(config.run.uri)


def test_a_study_learns_what_the_base_a_version_and_a_teacher_write(tmp_path: Path, crew: OneProcessCrew) -> None:
    two_versions(str(tmp_path / "other"), tmp_path)

    def teach(body: dict[str, Any], attempt: int) -> JudgeReply:
        return says(f"The first fact.\nThe fact of seed {body['seed']}.")

    with serving(teach) as server:
        arms = ["untrained", f"version:{tmp_path / 'other'}#1", f"teacher:{server.url}#wise"]
        config = configured(tmp_path / "run", *SAMPLED, f"study.arms={json.dumps(arms)}", "study.tasks=2")
        run = studied(config, crew)
        assert len(server.bodies) == 4, "two tasks, and study.edits of each"
        studied(config, crew)
        assert len(server.bodies) == 4, "nothing is asked for twice"
    found = study.summary(run)
    assert found and list(found["arms"]) == ["none", *arms]
    own, other, taught = (found["arms"][arm] for arm in arms)
    assert own["texts"] >= 2 and other["texts"] >= 2
    assert taught["texts"] == 2 * (3 + 1), "what both edits of a task say is learned once, and so is the passage"
    assert all(arm["version"] for arm in (own, other, taught))
    base, by_base, by_version, _ = (run.round(n) for n in (1, 2, 3, 4))
    assert base.version and {e.version for e in by_base.edits} == {base.version.digest}
    source = Run(str(tmp_path / "other")).versions()[1]
    assert {e.version for e in by_version.edits} == {source.digest}
    assert next(v for v in run.versions() if v.number == 3).parent == source.digest, "it goes on from that version"


@pytest.mark.parametrize(
    ("settings", "warns"),
    [
        (["gate.mode=auto"], True),
        ([], False),
        (["gate.mode=auto", "study.where=update", "study.sequences=1"], False),
        (["gate.mode=auto", "policy.mode=full"], False),
    ],
)
def test_a_gate_that_measures_no_drift_is_said_before_a_study_begins(
    settings: list[str], warns: bool, tmp_path: Path
) -> None:
    heard: list[Any] = []
    session: Any = SimpleNamespace(
        config=configured(tmp_path / "run", *settings), ledger=SimpleNamespace(latest=lambda: 0), tell=heard.append
    )
    study._warn_of_drift(session)
    assert [e.message.startswith("gate.max_kl has no say") for e in heard] == [True] * warns


def test_an_arm_of_many_prompts_and_samples_stands_beside_one_of_a_few_edits(
    tmp_path: Path, crew: OneProcessCrew
) -> None:
    styles = ("key_concepts", "critical_questions", "discussion")
    mixed = " ".join(f"domain.mixture.{style}=1" for style in styles)
    many = f"untrained with study.edits=8 sampling.temperature=1.2 domain.style=mixture {mixed}"
    config = configured(
        tmp_path / "run",
        *SAMPLED,
        f"study.arms={json.dumps(['untrained', many])}",
        "study.tasks=2",
        "domain.max_texts=2",
    )
    run = studied(config, crew)
    found = study.summary(run)
    assert found and list(found["arms"]) == ["none", "untrained", many]
    few, lots = run.round(2).edits, run.round(3).edits
    assert len(few) == 2 * 2 and {e.style for e in few} == {"implications"}
    assert len(lots) == 2 * 8 and {e.style for e in lots} == set(styles)
    assert found["arms"][many]["texts"] > found["arms"]["untrained"]["texts"]
    assert not {e.id for e in few} & {e.id for e in lots}


@pytest.mark.parametrize(
    ("arm", "why"),
    [
        ("untrained with inner.epochs=3", "no setting of an arm"),
        ("untrained with sampling.edits=3", "no setting of an arm"),
        ("untrained with study.edits=0", r"study\.edits"),
        ("untrained with domain.data=other.json", "the same for all arms"),
        ("joined:untrained", "joins all that it has"),
    ],
)
def test_what_an_arm_of_a_study_can_not_set_is_refused_before_anything_else(tmp_path: Path, arm: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        study.study(configured(tmp_path / "run", f"study.arms={json.dumps([arm])}"))
    assert not (tmp_path / "run").exists()


def test_the_texts_of_a_stream_have_no_settings_of_their_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no settings of their own"):
        stream.stream(configured(tmp_path / "run", "study.texts=untrained with domain.style=long"))


def test_what_a_teacher_wrote_before_it_was_lost_is_kept(tmp_path: Path, crew: OneProcessCrew) -> None:
    ill = True

    def teach(body: dict[str, Any], attempt: int) -> JudgeReply:
        return (500, {}, b"") if ill and body["seed"] % 2 else says(f"A fact of seed {body['seed']}.")

    with serving(teach) as server:
        arms = json.dumps([f"teacher:{server.url}#wise"])
        changes = ["study.tasks=3", f"study.arms={arms}", "grading.judge_retries=0", *SAMPLED]
        config = configured(tmp_path / "run", *changes)
        with pytest.raises(InfraError, match="not all edits could be had"):
            studied(config, crew)
        kept = [e.id for e in Run(config.run.uri).ledger.round(2).records("edits").values()]
        assert 0 < len(kept) < 6
        ill = False
        before = len(server.bodies)
        run = studied(config, crew)
        assert len(server.bodies) - before == 6 - len(kept)
    edits = run.round(2).edits
    assert len(edits) == 6 and set(kept) <= {e.id for e in edits}
    assert (study.summary(run) or {})["arms"][json.loads(arms)[0]]["texts"] == 6 + 3, "and the passages"


def test_a_stream_that_was_stopped_among_its_edits_samples_the_rest_and_learns_the_same(
    tmp_path: Path, crew: OneProcessCrew
) -> None:
    short = [*SAMPLED, "study.texts=untrained", "study.steps=2", "study.sequences=1"]

    def streamed(folder: Path, **more: Any) -> Run:
        config = configured(folder, *short)
        with opened(config, crew, **more) as session:
            stream.run_stream(session)
        return Run(config.run.uri)

    whole = streamed(tmp_path / "whole")
    folder, written = tmp_path, 0
    for looks in itertools.count(1):
        folder = tmp_path / str(looks)
        left = iter(range(looks))
        with pytest.raises(Interrupted):
            streamed(folder, stop=lambda left=left: next(left, None) is None)
        written = len(Run(str(folder)).ledger.round(1).records("edits"))
        if written:
            break
    assert written == 2, "it was stopped when one of two tasks had its edits"
    again = streamed(folder)
    assert [len(run.round(1).edits) for run in (whole, again)] == [4, 4]
    assert matrices(again) == matrices(whole)


def test_a_task_of_which_no_edit_can_be_learned_is_told(tmp_path: Path, crew: OneProcessCrew) -> None:
    heard: list[Event] = []
    calls = itertools.count()

    def teach(body: dict[str, Any], attempt: int) -> JudgeReply:
        return says("A fact." if next(calls) else " ")

    with serving(teach) as server:
        arms = json.dumps([f"teacher:{server.url}#wise"])
        changes = [*SAMPLED, f"study.arms={arms}", "study.tasks=2", "study.edits=1", "grading.judge_parallel=1"]
        run = studied(configured(tmp_path / "run", *changes), crew, listeners=[heard.append])
    assert sum(e.failure is not None for e in run.round(2).edits) == 1
    told = [e.message for e in heard if isinstance(e, Warned)]
    assert sum("no edit that can be learned: its passage alone is" in message for message in told) == 1


def test_a_task_of_which_half_the_edits_were_recorded_is_learned_from_all(tmp_path: Path, crew: OneProcessCrew) -> None:
    """As a driver leaves it that is killed between two segments, where edits were recorded one by one."""

    def gathered(folder: str, known: Sequence[Edit] = ()) -> dict[str, list[Edit]]:
        with opened(configured(tmp_path / folder, *SAMPLED, "study.tasks=2"), crew) as session:
            part, tasks = session.open_round(1), tuple(session.domain.tasks("train"))[:2]
            for edit in known:
                part.append("edits", edit)
            part.flush()
            return gather(session, part, source("untrained"), tasks, 2).edits

    whole = gathered("whole")
    assert {len(own) for own in whole.values()} == {2}
    assert gathered("half", [own[0] for own in whole.values()]) == whole


def test_what_must_not_get_worse_is_not_what_is_learned(tmp_path: Path, crew: OneProcessCrew) -> None:
    heard: list[Any] = []
    config = configured(tmp_path / "run", "study.split=validation", "domain.validation=0.5", "study.arms=[context]")
    for check in (study.check, stream.check):
        with pytest.raises(ConfigError, match=r"study\.split: validation"):
            opened(config, crew, check=check)
    plain = configured(tmp_path / "other", *SAMPLED, "inner.objective=distill", "study.arms=[context]", "study.tasks=1")
    studied(plain, crew, listeners=[heard.append])
    assert any("inner.objective: distill" in e.message for e in heard if isinstance(e, Warned))
