"""A probe writes questions, keeps those that stand every check, and maps what is not known."""

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import JudgeReply, says, serving
from knowing_crew import FACT, LIKE_THESE, TOWNS, KnowingCrew, folder, sentence, world

from seal_ray import config_file
from seal_ray.commands import probe as command
from seal_ray.config import AnsweringSection, Config, KnowledgeDomain
from seal_ray.domains import load_domain, passages
from seal_ray.errors import ConfigError, DataError, InfraError, Interrupted
from seal_ray.events import ProbeAsked, RoundCommitted
from seal_ray.loops import probe as loop
from seal_ray.loops.arm import Arm
from seal_ray.loops.evaluation import run_arm
from seal_ray.loops.history import Run
from seal_ray.loops.probe import QuestionSet, every_task, look, make_tests
from seal_ray.loops.probing.uncertainty import UncertaintyMap, passage_map
from seal_ray.loops.session import Session
from seal_ray.loops.studying.texts import gather
from seal_ray.policy import versions
from seal_ray.records import Recipe
from seal_ray.storage.deletion import delete_task
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify

SETTINGS = """
model: {name: "builtin:tiny", chat: "no"}
observe: {progress: quiet, ray_metrics: false}
storage: {stop_within: 100}
"""


def configured(tmp_path: Path, docs: Path, *changes: str) -> Config:
    given = [f"run.uri={tmp_path / 'run'}", "domain.name=documents", f"domain.data={docs}", *changes]
    return config_file.parse(SETTINGS, "test", given)


def go(config: Config, crew: Any, **more: Any) -> tuple[QuestionSet, UncertaintyMap]:
    with Session(config, hire=lambda *_: crew, **more) as session:
        part = session.open_round(1)
        tests = make_tests(session, part, every_task(session))
        found = look(session, part, versions.first(session.base), tests)
        part.commit({"decision": "probed"})
    return tests, found


def area_under_curve(positive: list[float], negative: list[float]) -> float:
    wins = sum((p > n) + 0.5 * (p == n) for p in positive for n in negative)
    return wins / (len(positive) * len(negative))


# the whole of it


def test_the_map_finds_what_is_not_known(tmp_path: Path) -> None:
    facts = world(32)
    known = dict(list(facts.items())[::2])
    crew = KnowingCrew(known)
    tests, found = go(configured(tmp_path, folder(tmp_path, facts)), crew)
    assert tests.funnel["kept"] == 32 == tests.funnel["written"] and not tests.funnel["lost"]
    assert tests.funnel["sentences_asked"] == tests.funnel["sentences"] == 32
    doubt = {q.text.split(" was ")[1].removesuffix(" born?"): q for q in found.questions}
    new = [doubt[n].doubt for n in facts if n not in known]
    old = [doubt[n].doubt for n in known]
    assert area_under_curve(new, old) >= 0.9
    assert all(q.disagreement == 0 and q.entropy == 0 and q.right == 1 for n, q in doubt.items() if n in known)
    part = Run(str(tmp_path / "run")).ledger.round(1)
    assert len(part.records("questions")) == 32
    assert {c.name for c in part.records("checks").values()} == {
        "form", "pointing", "leak", "in passage", "copy", "vote", "changed", "unrelated", "alone",
    }  # fmt: skip
    assert not verify(Run(str(tmp_path / "run")).ledger)


def test_what_is_known_already_has_no_weight_and_held_out_questions_weigh_nothing(tmp_path: Path) -> None:
    facts = world(16)
    known = dict(list(facts.items())[:8])
    tests, found = go(configured(tmp_path, folder(tmp_path, facts)), KnowingCrew(known))
    assert [p.weight > 0 for p in found.passages] == [False, False, True, True]
    assert len(tests.held_out) == 4, "0.3 of 16, one left over"
    left = sum(len(t.data["questions"]) for t in tests.training())
    assert left + sum(len(t.data["questions"]) for t in tests.final()) == 16
    assert [row["document"] for row in found.documents()][:2] == ["008.md", "012.md"]
    doubtless = passage_map({"a": ("d", "t")}, [], 0.1)
    assert doubtless[0].weight == 1.0 and doubtless[0].doubt is None


def test_a_probe_that_was_stopped_asks_for_nothing_twice(tmp_path: Path) -> None:
    facts = world(12)
    config = configured(tmp_path, folder(tmp_path, facts), "probe.chunk=4")
    whole, _ = go(
        config_file.resolved(config.model_dump(mode="json"), [f"run.uri={tmp_path / 'whole'}"]),
        reference := KnowingCrew({}),
    )
    crew = KnowingCrew({})
    for limit in (4, 20, 60):
        with pytest.raises(Interrupted):
            go(config, crew, stop=lambda limit=limit: len(crew.sampled) > limit)
    tests, _ = go(config, crew)
    assert tests.tasks == whole.tasks and tests.held_out == whole.held_out
    asked = [(p.task, p.slot, p.seed, p.prompt_ids) for p in crew.sampled]
    once = {(p.task, p.slot, p.seed, p.prompt_ids) for p in reference.sampled}
    assert set(asked) == once
    assert len(asked) - len(once) <= 3 * 2 * 4, "no more is asked again than was on its way"


def test_replies_that_are_lost_stop_the_probe_loudly_and_come_on_resume(tmp_path: Path) -> None:
    config = configured(tmp_path, folder(tmp_path, world(4)))
    crew = KnowingCrew({})
    crew.lose = 2
    with pytest.raises(InfraError, match=r"2 of 4 replies of a probe \(write\)"):
        go(config, crew)
    assert go(config, crew)[0].funnel["kept"] == 4


def test_a_passage_whose_likelihoods_are_lost_stops_the_probe_and_is_tried_on_resume(tmp_path: Path) -> None:
    config = configured(tmp_path, folder(tmp_path, world(8)))
    crew = KnowingCrew({})
    crew.lose_trials = 1
    with pytest.raises(InfraError, match="of 1 of 2 passages, like: it was killed"):
        go(config, crew)
    known = go(config, crew)[1]
    assert all(q.likelihood is not None for q in known.questions)


def test_a_question_that_the_model_has_no_room_for_is_no_wrong_answer(tmp_path: Path) -> None:
    facts = world(4)
    asked = tmp_path / "asked.json"
    asked.write_text(json.dumps([{"question": f"Where was {n} born?", "answer": t} for n, t in facts.items()]))
    config = configured(tmp_path, folder(tmp_path, facts), f"domain.questions={asked}", "probe.questions=0")
    crew = KnowingCrew(facts)
    crew.too_long = next(iter(facts))
    with pytest.raises(DataError, match=f"Where was {crew.too_long} born.* can't be asked: a prompt of 3000 tokens"):
        go(config, crew)


def test_progress_is_told(tmp_path: Path) -> None:
    heard: list[Any] = []
    config = configured(tmp_path, folder(tmp_path, world(4)))
    go(config, KnowingCrew({}), listeners=[heard.append])
    ends = {e.purpose: (e.done, e.total) for e in heard if isinstance(e, ProbeAsked)}
    told = {"write": 4, "vote": 12, "changed": 4, "alone": 4, "closed book": 16}
    assert ends == {purpose: (count, count) for purpose, count in told.items()}, "there is no other passage"


def test_a_probe_tells_that_its_round_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew: Any = KnowingCrew({})
    monkeypatch.setattr(loop, "Session", lambda *a, **k: Session(*a, **k, hire=lambda *_: crew))
    config = configured(tmp_path, folder(tmp_path, world(4)))
    loop.probe(config)
    (told,) = [e for e in Run(config.run.uri).events() if isinstance(e, RoundCommitted)]
    assert (told.round, told.version, told.decision) == (1, 0, "probed") and Run(config.run.uri).round(1).committed


def test_edits_that_are_lost_are_not_taken_for_edits_that_nobody_wrote(tmp_path: Path) -> None:
    crew: Any = KnowingCrew({})
    config = configured(tmp_path, folder(tmp_path, world(8)), *LIKE_THESE, "sampling.edits=1", "sampling.chunk=1")
    with Session(config, hire=lambda *_: crew) as session:
        tasks, part = every_task(session), session.open_round(1)
        for begin in (
            lambda: gather(session, part, Arm.of("untrained"), tasks, 1),
            lambda: run_arm(session, 2, Arm.of("joined:untrained"), tasks),
        ):
            crew.lose = 1
            with pytest.raises(InfraError, match="the edits of 1 of 2 tasks were lost"):
                begin()
        crew.sampled.clear()
        assert {t: len(own) for t, own in gather(session, part, Arm.of("untrained"), tasks, 1).edits.items()} == {
            t.id: 1 for t in tasks
        }
        assert len(crew.sampled) == 1, "what is there is not sampled again"


def test_questions_of_people_are_preferred(tmp_path: Path) -> None:
    facts = world(4)
    docs = folder(tmp_path, facts)
    name, town = next(iter(facts.items()))
    asked = tmp_path / "asked.json"
    asked.write_text(f'[{{"question": "Where did {name} come into this world?", "answer": "{town}"}}]')
    tests, _ = go(configured(tmp_path, docs, f"domain.questions={asked}", "probe.questions=2"), KnowingCrew({}))
    assert tests.funnel["by_people"] == 1 and tests.funnel["written"] == 1
    assert [q.origin for q in tests.about.values()] == ["person", "model"]
    none_written, _ = go(
        configured(tmp_path, docs, f"domain.questions={asked}", "probe.questions=1", f"run.uri={tmp_path / 'other'}"),
        crew := KnowingCrew({}),
    )
    assert none_written.funnel["written"] == 0 and none_written.funnel["kept"] == 1
    assert all(p.schema is None for p in crew.sampled)


def test_a_teacher_writes_and_the_base_still_votes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(8)
    liar = next(iter(facts))

    def writes(body: dict[str, Any], attempt: int) -> JudgeReply:
        assert body["response_format"]["json_schema"]["schema"]["required"] == ["answer", "question"]
        match = FACT.search(body["messages"][0]["content"].rpartition("Sentence: ")[2])
        assert match
        name, town = match.groups()
        wrong = next(t for t in TOWNS if t != town)
        told = {"question": f"In which town was {name} born?", "answer": wrong if name == liar else town}
        if len(server.bodies) > 5 and not mended:
            return 400, {}, b"no more"
        return says(json.dumps(told) if name != list(facts)[1] else "I would rather not")

    mended: list[bool] = []
    monkeypatch.setenv("SEAL_RAY_TEACHER_KEY", "open sesame")
    with serving(writes) as server:
        changes = (f"probe.teacher_url={server.url}", "probe.teacher_model=large", "probe.chunk=2")
        config, crew = configured(tmp_path, folder(tmp_path, facts), *changes), KnowingCrew({})
        with pytest.raises(InfraError, match=r"of 8 questions could not be had from the teacher"):
            go(config, crew)
        mended.append(True)
        tests, _ = go(config, crew)
        asked = len(server.bodies)
        assert {h["Authorization"] for h in server.headers} == {"Bearer open sesame"}
        assert go(config, crew)[0].tasks == tests.tasks and len(server.bodies) == asked, "nothing is asked for twice"
    assert all(p.schema is None for p in crew.sampled), "the base writes nothing"
    assert tests.funnel["written"] == 8 and tests.funnel["kept"] == 6
    assert tests.funnel["lost"] == {"form": 1, "vote": 1} or set(tests.funnel["lost"]) == {"form", "in passage"}
    written = [
        r for r in Run(str(tmp_path / "run")).ledger.round(1).records("replies").values() if r.purpose == "write"
    ]
    assert {r.version for r in written} == {"teacher large"} and len(written) == 8
    with pytest.raises(ConfigError, match="go together"):
        configured(tmp_path, tmp_path / "docs", "probe.teacher_model=large")


def test_where_no_question_survives_that_is_the_result(tmp_path: Path) -> None:
    crew = KnowingCrew({}, write=lambda told: ("What does the passage say?", "nothing"))
    tests, found = go(configured(tmp_path, folder(tmp_path, world(4))), crew)
    assert tests.tasks == () and found.questions == ()
    assert tests.funnel["kept"] == 0 and tests.funnel["lost"] == {"pointing": 4}
    assert [p.weight for p in found.passages] == [1.0]


def test_a_passage_that_is_deleted_takes_its_questions_along(tmp_path: Path) -> None:
    facts = world(8)
    go(configured(tmp_path, folder(tmp_path, facts)), KnowingCrew({}))
    ledger = Ledger(str(tmp_path / "run"))
    part = ledger.round(1)
    task = (part.get("tasks.json") or {})["tasks"][0]
    delete_task(ledger, task["id"])
    ledger.close()
    gone = next(iter(facts))
    for path in (tmp_path / "run" / "rounds").rglob("*"):
        assert not path.is_file() or gone not in path.read_text(), path


# the command


def test_the_command_says_what_is_not_known_and_writes_data_for_a_run(tmp_path: Path) -> None:
    facts = world(12)
    docs = folder(tmp_path, facts)
    config = command.configured(str(docs), [f"run.uri={tmp_path / 'run'}", *LIKE_THESE])
    assert config.domain.name == "documents" and config.run.uri == str(tmp_path / "run")
    tests, found = go(config, KnowingCrew(dict(list(facts.items())[:4])))
    shown = command.show(config, tests, found, tmp_path / "questions.json")
    assert "12 questions written; 12 stood every check" in shown
    assert "1 of 3 passages are known already" in shown and "least known:" in shown
    lines = [line.split()[0] for line in shown.splitlines() if ".md" in line]
    assert lines[:3] == ["004.md", "008.md", "000.md"]
    command.write(tests, found, tmp_path / "questions.json", config.probe.known)
    loaded = passages.load(str(tmp_path / "questions.json"), lambda uri: b"", print)
    assert [p.weight > 0 for p in loaded] == [False, True, True]
    assert sum(len(p.questions) for p in loaded) == 12
    weak = {s for p in loaded for s in p.weak}
    held_out = {q.text.split(" was ")[1].removesuffix(" born?") for q in found.questions if q.held_out}
    assert weak == {sentence(n, t) for n, t in list(facts.items())[4:] if n not in held_out}
    section = KnowledgeDomain(data=str(tmp_path / "questions.json"), style="targeted", validation=0, test=0)
    made = load_domain(
        section,
        recipe=Recipe(),
        answering=AnsweringSection(),
        chat=False,
        seed=1,
        read=lambda uri: Path(uri).read_bytes(),
    )
    prompts = {t.data["title"]: made.edit_request(t, 0).prompt.text for t in made.tasks("train")}
    listed = {line[2:] for text in prompts.values() for line in text.splitlines() if line.startswith("- ")}
    assert listed == weak
    plain = load_domain(
        section.model_copy(update={"style": "implications"}),
        recipe=Recipe(), answering=AnsweringSection(), chat=False, seed=1, read=lambda uri: Path(uri).read_bytes(),
    )  # fmt: skip
    assert not any("weak" in t.data for t in plain.tasks("train")), "other styles' tasks are what they were"
    assert command.as_data(config, tests, found)["funnel"] == tests.funnel


def test_another_style_takes_the_place_of_the_built_in_one() -> None:
    styled = command.configured("docs", ["domain.style=targeted"]).domain
    assert isinstance(styled, KnowledgeDomain) and (styled.style, styled.template) == ("targeted", "")


def test_a_probe_without_a_question_says_what_to_do(tmp_path: Path) -> None:
    crew = KnowingCrew({}, write=lambda told: ("", ""))
    config = configured(tmp_path, folder(tmp_path, world(4)))
    shown = command.show(config, *go(config, crew), None)
    assert "4 questions written; 0 stood every check (failed: form 4)" in shown and "a larger model" in shown


def test_where_questions_can_not_be_written_is_found_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("")
    for target, said in ((tmp_path / "there.json", "already there"), (tmp_path / "no" / "x.json", "no folder")):
        with pytest.raises(ConfigError, match=said):
            command.check_target(target)


def test_what_could_not_be_asked_passes_no_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer without the passage is no fault where it follows a changed one. Whether it does nobody can say here."""
    ((name, town),) = facts = list(world(1).items())
    crew = KnowingCrew({}, stubborn={name: town})
    crew.too_long = "Brenfield"
    changed = "seal_ray.loops.probing.validation.changed"
    monkeypatch.setattr(changed, lambda context, answer, *_: (context.replace(answer, "Brenfield"), "Brenfield"))
    tests, _ = go(configured(tmp_path, folder(tmp_path, dict(facts))), crew)
    checks = {c.name: c for c in Run(str(tmp_path / "run")).ledger.round(1).records("checks").values()}
    assert checks["changed"].passed is None and "could not be asked: a prompt of 3000" in checks["changed"].reason
    assert checks["alone"].passed is False and not tests.tasks


# planted faults


def test_planted_faults_are_found(tmp_path: Path) -> None:
    """False answers, leaks, two right answers, pointing at the text, and what can be guessed; four of each in 40."""
    facts = world(40)
    names = list(facts)
    kinds = ("false", "leak", "two", "text", "guess")
    fault = {name: kinds[n // 4] for n, name in enumerate(names[:20])}

    def write(told: str) -> tuple[str, str]:
        match = FACT.search(told)
        assert match
        name, town = match.groups()
        match fault.get(name):
            case "false":
                return f"In which town was {name} born?", next(t for t in TOWNS if t != town)
            case "leak":
                return f"Which {town} is the town in which {name} was born?", town
            case "text":
                return f"In which town, according to the text, was {name} born?", town
        return f"In which town was {name} born?", town

    crew = KnowingCrew(
        dict(list(facts.items())[20:30]),
        write,
        quarrelsome=[n for n, f in fault.items() if f == "two"],
        stubborn={n: facts[n] for n, f in fault.items() if f == "guess"},
    )
    tests, _ = go(configured(tmp_path, folder(tmp_path, facts)), crew)
    kept = {n for n in names for q in tests.about.values() if n in q.question}
    flagged = set(names) - kept
    assert flagged == set(fault), "precision and recall are 1: what is known is no fault"
    checks = Run(str(tmp_path / "run")).ledger.round(1).records("checks").values()
    questions = Run(str(tmp_path / "run")).ledger.round(1).records("questions")
    by = {n: {c.name for c in checks if c.passed is False and n in questions[c.question].question} for n in fault}
    assert {kind: set.union(*(by[n] for n, f in fault.items() if f == kind)) for kind in ("leak", "text", "two")} == {
        "leak": {"leak"},
        "text": {"pointing"},
        "two": {"vote"},
    }
    assert all(by[n] & {"vote", "in passage"} for n, f in fault.items() if f == "false")
    assert all("changed" in by[n] for n, f in fault.items() if f == "guess")
