"""Studies and streams on a tiny model: real banks, updates, ledger and domain; only Ray is stood in for."""

import itertools
import json
import shutil
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bank_crew import BankCrew
from one_process_crew import update

from seal_ray import config_file
from seal_ray.commands.compare import compare, show
from seal_ray.config import Config, StudySection
from seal_ray.domains.knowledge import Knowledge
from seal_ray.errors import ConfigError, DataError, Interrupted, LedgerError
from seal_ray.inner import keep
from seal_ray.loops import stream, study
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.loops.studying import step
from seal_ray.loops.studying.route import TextRouter, put_together
from seal_ray.policy.versions import tree
from seal_ray.records import Answer, Likelihood, StudyAttempt, Task, Trial
from seal_ray.storage import codec
from seal_ray.storage.deletion import delete_task
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify

ASKED = [{"question": "How often does the tide turn?", "answers": ["Twice"]}]
SETTINGS = """
run: {seed: 3}
model: {name: "builtin:tiny", dtype: float32, max_length: 1024}
domain: {name: knowledge, data: "builtin:quickstart", max_texts: 4, max_questions: 1}
answering: {max_tokens: 2}
inner: {max_length: 1024}
policy: {rank: 4, alpha: 8, lr: 5.0e-3, epochs: 2, global_batch: 2, max_length: 1024, dtype: float32}
study: {steps: 3, sequences: 2, tasks: 3, arms: [context]}
observe: {ray_metrics: false, progress: quiet}
storage: {stop_within: 100}
"""


def configured(folder: Path, *changes: str) -> Config:
    return config_file.parse(SETTINGS, "settings", [f"run.uri={folder}", "policy.checkpointing=false", *changes])


def opened(config: Config, **more: Any) -> Session:
    return Session(config, hire=BankCrew, **more)  # type: ignore[arg-type]


def streamed(folder: Path, *changes: str, **more: Any) -> Run:
    config = configured(folder, *changes)
    with opened(config, **more) as session:
        stream.run_stream(session)
    return Run(config.run.uri)


def matrices(run: Run, measure: str = "likelihood") -> Any:
    found = stream.summary(run)
    assert found
    return found["measures"][measure]["matrix"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return streamed(tmp_path_factory.mktemp("whole") / "run")


def test_a_stream_measures_every_task_after_every_step(whole: Run) -> None:
    found = stream.summary(whole)
    assert found and found["done"] == found["steps"] == 3 and found["sequences"] == 2
    matrix = matrices(whole)
    assert len(matrix) == 4 and all(len(row) == 3 and None not in row for row in matrix)
    assert all(matrix[i + 1][i] > matrix[i][i] for i in range(3)), "each step is learned when it is its turn"
    assert found["measures"]["likelihood"]["figures"]["immediate"]["low"] is not None
    assert len(found["skills"]["likelihood"]) == 4 and None not in found["probe"]
    assert found["kl"][0] == 0 and all(0 < moved < 5 for moved in found["kl"][1:])
    assert found["cost"]["seconds"] > 0 and found["cost"]["bytes"] > 10_000


def test_each_step_is_a_round_with_a_version_that_has_its_parent(whole: Run) -> None:
    assert whole.ledger.rounds() == [1, 2, 3, 4] and whole.latest == 4
    versions = whole.versions()
    assert [v.number for v in versions] == [0, 2, 3, 4]
    assert all(child.parent == parent.digest for parent, child in itertools.pairwise(versions))
    assert "version 4" in tree(whole.lineage())


def test_between_two_looks_at_everything_only_a_steps_own_task_is_asked() -> None:
    """`study.measure_every`; before the first step and after the last one everything is asked."""
    a, b, c, skill = (Task(name, {}) for name in ("a", "b", "c", "skill"))
    section = StudySection(steps=3, measure_every=2)
    curriculum = stream.Curriculum((((a,), (b,), (c,)),), (skill,), section)
    asked = [[t.id for t in curriculum.exam(0, step).tasks] for step in range(4)]
    everything = ["a", "b", "c", "skill"]
    assert asked == [everything, ["a"], everything, everything]


def test_a_stream_that_is_stopped_goes_on_to_the_same_matrix(whole: Run, tmp_path: Path) -> None:
    first_step = tmp_path / "run/rounds/0001/manifest.json"
    with pytest.raises(Interrupted):
        streamed(tmp_path / "run", stop=first_step.exists)
    begun = Run(str(tmp_path / "run")).latest
    again = streamed(tmp_path / "run")
    assert 0 < begun < 4 and matrices(again) == matrices(whole)


def test_a_stream_that_is_done_asks_for_no_crew(whole: Run, tmp_path: Path) -> None:
    shutil.copytree(whole.uri, tmp_path / "run")

    def nobody(*_: Any) -> Any:
        raise AssertionError("a cluster was asked for")

    with Session(configured(tmp_path / "run"), hire=nobody) as session:
        stream.run_stream(session)


def test_bank_and_update_give_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "update", update)
    one = ["study.sequences=1", "study.steps=2"]
    for method in ("none", "fresh", "last_layers"):
        keeping = [f"study.keep.method={method}", "study.keep.layers=1"]
        banked = streamed(tmp_path / f"bank-{method}", *one, *keeping)
        updated = streamed(tmp_path / f"update-{method}", *one, *keeping, "study.where=update")
        for mine, theirs in zip(matrices(banked), matrices(updated), strict=True):
            assert mine == pytest.approx(theirs, abs=1e-4), method


def test_what_a_sequence_learns_does_not_depend_on_the_others(whole: Run, tmp_path: Path) -> None:
    alone = streamed(tmp_path / "run", "study.sequences=1")
    drawn = [(run.ledger.round(1).get(stream.PLAN) or {})["sequences"][0] for run in (alone, whole)]
    assert drawn[0] == drawn[1]
    for number in alone.ledger.rounds():
        mine, theirs = (run.ledger.round(number).get(stream.ROW)["rows"][0]["scores"] for run in (alone, whole))  # type: ignore[index]
        for task, score in mine.items():
            assert score["likelihood"] == pytest.approx(theirs[task]["likelihood"], abs=1e-4)


@pytest.mark.parametrize("method", ["fresh", "replay", "distill", "ewc", "null_space", "slao", "separate"])
def test_every_method_goes_through_a_stream(tmp_path: Path, method: str) -> None:
    run = streamed(tmp_path / "run", "study.steps=2", f"study.keep.method={method}", "study.open_book=true")
    matrix = matrices(run)
    assert matrix[1][0] > matrix[0][0] and matrix[2][1] > matrix[1][1], "it learns"
    found = stream.summary(run)
    assert found and found["method"] == method and "open_book" in found["measures"]
    learned = [len((run.ledger.round(n).get("update.json") or {})["edits"]) for n in (2, 3)]
    assert learned == ([1, 2] if method in {"replay", "distill"} else [1, 1])


@pytest.mark.parametrize("method", ["replay", "separate"])
def test_what_earlier_steps_learned_is_not_made_into_lessons_at_every_later_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    made, training = Counter[str](), Knowledge.training

    def counted(domain: Knowledge, task: Task, content: Any, tokenizer: Any) -> Any:
        made[task.id] += 1
        return training(domain, task, content, tokenizer)

    monkeypatch.setattr(Knowledge, "training", counted)
    changes = ["study.steps=4", "study.sequences=1", f"study.keep.method={method}", "study.keep.share=1"]
    run = streamed(tmp_path / "run", *changes, "policy.epochs=1")
    plan = run.ledger.round(1).get(stream.PLAN) or {}
    assert {made[task] for own in plan["sequences"][0] for task in own} == {1}


@pytest.mark.parametrize("method", ["none", "separate"])
def test_a_step_asks_the_store_as_often_however_many_steps_came_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    asked, loop = Counter[int](), threading.current_thread()
    run_step, do, step = stream.run_step, Store._do, 0

    def counted(store: Store, *given: Any, **more: Any) -> Any:
        asked[step] += threading.current_thread() is loop
        return do(store, *given, **more)

    def stepped(session: Session, number: int, *given: Any) -> None:
        nonlocal step
        step = number - 1
        run_step(session, number, *given)

    monkeypatch.setattr(Store, "_do", counted)
    monkeypatch.setattr(stream, "run_step", stepped)
    changes = ["study.steps=8", "study.sequences=1", "study.measure_every=100", "policy.epochs=1"]
    streamed(tmp_path / "run", *changes, f"study.keep.method={method}")
    own = [asked[number] for number in range(2, 8)]  # the last one is followed by the end of the run
    assert min(own) > 10 and max(own) - min(own) <= 4, own


def test_an_adapter_that_words_choose_is_asked_what_it_may_answer_and_the_matrix_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = ["study.steps=4", "study.sequences=2", "study.keep.method=separate", "domain.max_questions=2"]
    asked: dict[str, list[int]] = {"own": [], "all": []}

    def asked_in(which: str) -> Any:
        with opened(configured(tmp_path / which, *changes)) as session:
            stream.run_stream(session)
            tried = [a for a in session.crew.tried if isinstance(a, StudyAttempt)]  # type: ignore[attr-defined]
        asked[which] = [len(a.asks) for a in tried]
        return matrices(Run(str(tmp_path / which)))

    own = asked_in("own")
    monkeypatch.setattr(stream.Curriculum, "ever_chosen", lambda curriculum, sequence, step: None)
    for mine, theirs in zip(own, asked_in("all"), strict=True):
        assert mine == pytest.approx(theirs, abs=1e-4)
    assert len(asked["own"]) == len(asked["all"]) == 8 and sum(asked["own"]) < 0.6 * sum(asked["all"]), asked


def test_separate_adapters_answer_what_is_theirs(tmp_path: Path) -> None:
    """Chosen by likelihood or by words, the first step's questions go on being answered as they were."""
    for router in ("texts", "likelihood"):
        run = streamed(tmp_path / router, "study.steps=2", "study.keep.method=separate", f"study.keep.router={router}")
        matrix = matrices(run)
        assert matrix[2][0] == pytest.approx(matrix[1][0], abs=1e-6 if router == "texts" else 0.3)
        assert {v.parent for v in run.versions() if v.number} == {run.versions()[0].digest}


def test_a_question_goes_to_the_step_whose_words_it_has_and_else_to_the_base() -> None:
    router = TextRouter(["The lamp of Orla was lit by whales.", "The bridge of Sann was built by monks."])
    assert router.choose("Who built the bridge?") == 2
    assert router.choose("What was the lamp lit by?") == 1
    assert router.choose("Quantum chromodynamics?") == 0


def test_with_its_passage_at_hand_a_question_is_answered_by_the_step_that_was_chosen_for_it() -> None:
    asked = ("0|q", "open0|q", "1|q", "open1|q", "probe|p")

    def trial(step: int) -> Trial:
        answers = tuple(Answer(question, f"step {step}", 1, "stop", 0.0) for question in asked)
        return Trial(str(step), "sequence", (), answers, tuple(Likelihood(question, 0, -step, 1) for question in asked))

    made = put_together({step: trial(step) for step in (0, 1, 2)}, {"0|q": 1})
    expected = {"0|q": 1, "open0|q": 1, "1|q": 2, "open1|q": 2, "probe|p": 0}
    assert {a.question: a.text for a in made.answers} == {name: f"step {step}" for name, step in expected.items()}
    assert {x.question: -x.logprob for x in made.likelihoods} == expected


def test_what_must_stay_as_it_is_is_what_is_configured(tmp_path: Path) -> None:
    passage = {"title": "Tides", "context": "The tide turns twice a day.", "questions": ASKED}
    (tmp_path / "skills.json").write_text(json.dumps([passage]))
    idle: Any = SimpleNamespace(close=lambda: None, release=lambda *_: None, gpu_hours=lambda: 0.0)
    with Session(configured(tmp_path / "own", f"study.skills={tmp_path}/skills.json"), hire=lambda *_: idle) as session:
        (task,) = step.skills(session)
        assert task.data["title"] == "Tides" and [q.gold for q in session.domain.questions(task)] == [("Twice",)]
    with Session(configured(tmp_path / "run"), hire=lambda *_: idle) as session:
        assert step.skills(session) == tuple(session.domain.tasks("validation"))


def test_a_study_compares_its_arms_with_the_base(tmp_path: Path) -> None:
    passages = json.loads(Path("seal_ray/demo/quickstart.json").read_text())
    for p in passages:
        p["edits"] = {"notes": [p["context"][:60], p["context"][60:140]]}
    data = tmp_path / "passages.json"
    data.write_text(json.dumps(passages))
    arms = json.dumps(["context", f"file:{data}#notes"])
    config = configured(tmp_path / "run", f"domain.data={data}", f"study.arms={arms}", "study.edits=2")
    with opened(config) as session:
        study.run_study(session)
    found = study.summary(Run(config.run.uri))
    assert found and list(found["arms"]) == ["none", "context", f"file:{data}#notes"]
    assert found["arms"]["context"]["texts"] == 3 < found["arms"][f"file:{data}#notes"]["texts"]
    rows = found["tables"]["tasks likelihood"]
    assert rows["context"]["difference"]["mean"] > 0 and "skills likelihood" in found["tables"]
    versions = Run(config.run.uri).versions()
    assert [v.number for v in versions] == [0, 2, 3] and versions[2].parent == versions[0].digest


def test_streams_are_compared_by_what_they_keep(whole: Run) -> None:
    lines = show(compare([whole, whole])).splitlines()
    start = lines.index("streams, likelihood")
    assert lines[start + 1].split()[:2] == ["method", "base"] and "none" in lines[start + 2]
    kept = stream.summary(whole)["measures"]["likelihood"]["figures"]["retained"]  # type: ignore[index]
    assert f"{kept['mean']:.3f} ({kept['low']:.3f}, {kept['high']:.3f})" in lines[start + 2]


# bad input


def test_more_steps_than_there_are_tasks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"200 steps of 2 tasks want 400, and the split train has"):
        streamed(tmp_path / "run", "study.steps=200", "study.tasks_per_step=2")


def test_a_split_without_tasks_is_no_study(tmp_path: Path) -> None:
    config = configured(tmp_path / "run", "study.split=test", "domain.test=0")
    with pytest.raises(ConfigError, match=r"study\.split: test has no tasks"), opened(config) as session:
        study.run_study(session)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["study.where=update", "study.sequences=1", "study.keep.method=ewc"], "ewc works in a bank only"),
        (["study.where=update", "study.sequences=2"], "advance together in a bank only"),
        (["policy.mode=full", "study.keep.method=slao"], "slao holds on to an adapter"),
        (["policy.mode=full", "study.where=bank"], "bank trains adapters"),
        (["study.keep.method=hope"], "study.keep.method"),
        (["study.keep.energy=0"], "study.keep.energy"),
    ],
)
def test_a_method_that_the_mode_does_not_allow_says_which_does(tmp_path: Path, changes: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refused:
        configured(tmp_path / "run", *changes)
    assert not said.startswith("study.keep.m") or "last_layers" in str(refused.value)


def test_more_last_layers_than_the_model_has(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"study\.keep\.layers: 10, and the model has 2"):
        streamed(tmp_path / "run", "study.keep.method=last_layers")


def test_a_text_that_is_too_long_is_named_and_nothing_is_half_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"task .* has no text that can be learned: .*policy\.max_length is 16") as said:
        streamed(tmp_path / "run", "policy.max_length=16")
    assert "raise policy.max_length" in str(said.value)
    assert Run(str(tmp_path / "run")).latest == 0, "not even the base was asked"


def test_a_fisher_that_overflows_stops_the_step_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflow(self: Any, weights: Any, observe: Any) -> None:
        raise keep.KeepFailed("the Fisher of layer x is not finite: the gradients on these texts overflow")

    monkeypatch.setattr(keep.Ewc, "remember", overflow)
    with pytest.raises(DataError, match=r"sequence-1: the Fisher of layer x is not finite") as said:
        streamed(tmp_path / "run", "study.keep.method=ewc")
    assert "study.keep.method" in str(said.value) and Run(str(tmp_path / "run")).latest == 1


def test_a_task_that_left_the_data_is_missed(whole: Run, tmp_path: Path) -> None:
    first_step = tmp_path / "run/rounds/0001/manifest.json"
    with pytest.raises(Interrupted):
        streamed(tmp_path / "run", stop=first_step.exists)
    data = tmp_path / "fewer.json"
    data.write_text(json.dumps(json.loads(Path("seal_ray/demo/quickstart.json").read_text())[:1]))
    config = configured(tmp_path / "run")
    with opened(config) as session:
        session.domain.tasks = lambda split: []  # type: ignore[method-assign,assignment]
        with pytest.raises(DataError, match="is not in the data any more"):
            stream.run_stream(session)


# deleting a task


def test_a_task_that_is_deleted_from_a_stream_leaves_no_name_no_answer_and_no_score(whole: Run, tmp_path: Path) -> None:
    before = stream.summary(whole)
    shutil.copytree(whole.uri, tmp_path / "run")
    plan = whole.ledger.round(1).get(stream.PLAN) or {}
    task = next(t for t in whole.round(2).tasks if t.id == plan["sequences"][0][0][0])
    done = delete_task(Ledger(str(tmp_path / "run")), task.id)
    assert done.leftovers == ()
    texts = [task.id, *(q["question"] for q in task.data["questions"])]
    objects = [p for p in (tmp_path / "run").rglob("*") if p.is_file() and "tombstones" not in p.parts]
    assert not [(p, t) for p in objects for t in texts if t.encode() in p.read_bytes()]
    left = Run(str(tmp_path / "run"))
    assert verify(left.ledger) == []
    for number in whole.ledger.rounds():
        told, kept = whole.ledger.round(number), left.ledger.round(number)
        exams = {r["candidate"]: r["exam"] for r in (told.get(stream.ROW) or {})["rows"]}
        for trial in told.records("trials").values():
            gone = {f"{n}|" for n, one in enumerate(exams.get(trial.candidate, ())) if one == task.id}
            rest = [a for a in trial.answers if not any(a.question.startswith(g) for g in gone)]
            assert list(kept.records("trials")[trial.id].answers) == rest
            assert bool(gone) == (len(rest) < len(trial.answers))
    after = stream.summary(left)
    assert before and after and after["steps"] == before["steps"]
    row = (after["measures"]["likelihood"]["matrix"], before["measures"]["likelihood"]["matrix"])
    assert [line[1:] for line in row[0]] == [line[1:] for line in row[1]]
    assert delete_task(Ledger(str(tmp_path / "run")), task.id).records == 0


def test_rows_that_another_hand_has_written_are_named(whole: Run, tmp_path: Path) -> None:
    folder = tmp_path / "none yet"
    plans: list[Any] = [{"sequences": [[["a"]]] * 9, "skills": []}, {"sequences": 3}, {"sequences": [[]]}]
    for number, plan in enumerate(plans):
        folder = tmp_path / str(number)
        shutil.copytree(whole.uri, folder)
        for manifest in folder.glob("rounds/*/manifest.json"):
            manifest.unlink()  # so that nothing but its own digest says what the plan was
        path = f"rounds/0001/{stream.PLAN}"
        (folder / path).write_bytes(codec.pack_part(path, 1, plan))
        with pytest.raises(LedgerError, match="no seal_ray has written"):
            stream.summary(Run(str(folder)))
    path = "rounds/0002/update.json"
    (folder / path).write_bytes(codec.pack_part(path, 1, {"version": {"digest": "x", "path": 3}}))
    with pytest.raises(LedgerError, match="no seal_ray has written"):
        Run(str(folder)).lineage()
