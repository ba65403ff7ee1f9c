"""From documents to an adapter, with a table in the place of a model: what is learned, left out, and said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from knowing_crew import LIKE_THESE, TOWNS, KnowingCrew, folder, sentence, world

from seal_ray.commands import adapt as command
from seal_ray.commands import learned
from seal_ray.commands import probe as probing
from seal_ray.commands.decisions import decide
from seal_ray.commands.served import find
from seal_ray.config import Config, StorageSection
from seal_ray.errors import ConfigError, DataError, Interrupted
from seal_ray.events import RoundCommitted
from seal_ray.loops import rounds
from seal_ray.loops.adapt import Adapted, begun_with, judged, run_adapt
from seal_ray.loops.history import Run
from seal_ray.loops.probing.slices import slices
from seal_ray.loops.probing.support import unsupported
from seal_ray.loops.probing.uncertainty import UncertaintyMap, mapped
from seal_ray.loops.session import Session
from seal_ray.sampling.sampler import EditPrompt
from seal_ray.storage.verification import verify

SMALL = (
    "sampling.edits=2",
    "inner.repeats=1",
    "probe.held_out=0.25",
    "grading.reward=likelihood",
    "storage.stop_within=100",
)


def configured(tmp_path: Path, docs: Path, *changes: str) -> Config:
    return probing.configured(str(docs), [f"run.uri={tmp_path / 'run'}", *LIKE_THESE, *SMALL, *changes], kind="adapt")


def go(config: Config, crew: KnowingCrew, monkeypatch: pytest.MonkeyPatch, policy: str = "", **more: Any) -> Adapted:
    monkeypatch.setattr(rounds, "update", crew.update)
    with Session(config, hire=lambda *_: crew, **more) as session:  # type: ignore[arg-type,return-value]
        return run_adapt(session, begun_with(session, policy))


def test_what_was_not_known_is_learned_and_the_rest_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(16)
    known = dict(list(facts.items())[:4])
    crew = KnowingCrew(known)
    config = configured(tmp_path, folder(tmp_path, facts))
    done = go(config, crew, monkeypatch)
    assert done.decision == "accept" and done.after
    (job,) = crew.jobs
    taught = " ".join(crew.tokenizer.decode([*x.text.prompt_ids, *x.text.ids]) for x in job.lessons)
    assert all(n in taught for n in facts if n not in known) and not any(n in taught for n in known)
    outcomes = {a.before.text.split(" was ")[1].removesuffix(" born?"): a.outcome for a in learned.questions(done)}
    assert outcomes == {n: "known before" if n in known else "learned" for n in facts}
    whole = next(s for s in done.slices if s.by == "all")
    assert whole.after == 1 and whole.low is not None and whole.low > 0.2
    held = {q.id for q in done.before.questions if q.held_out}
    tried = {q["question"] for t in Run(config.run.uri).round(2).tasks for q in t.data["questions"]}
    assert len(held) == 4 and not tried & {q.text for q in done.before.questions if q.held_out}
    assert not verify(Run(config.run.uri).ledger)
    assert [r.committed for r in Run(config.run.uri).rounds()] == [True] * 3

    out = tmp_path / "mine"
    said = command.write(done, config, out)
    assert said["outcomes"] == {"learned": 12, "not learned": 0, "lost": 0, "known before": 4} and said["exported"]
    assert {p.name for p in out.iterdir()} == set(command.OURS)
    assert list(find(str(out), StorageSection(), str(tmp_path)).adapters) == ["mine"]
    assert find(config.run.uri, StorageSection(), str(tmp_path)).adapters.keys() == {"version-3"}
    command.check_target(out)  # the same command may be given again
    shown = command.show(done, config, out)
    assert "16 questions about 4 of 4 passages" in shown and "seal-ray ask" in shown


def test_a_round_is_told_with_its_own_time_and_chosen_by_the_control_that_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(Session, "seconds", property(lambda session: 1e6))  # of the whole process
    config = configured(tmp_path, folder(tmp_path, world(8)), "select.control=shuffled")
    go(config, KnowingCrew({}), monkeypatch, listeners=[heard.append])
    taken = [e.seconds for e in heard if isinstance(e, RoundCommitted)]
    assert len(taken) == 3 and max(taken) < 1e6
    chosen = Run(config.run.uri).ledger.round(2).get("selection.json")
    assert chosen and chosen["control"]["kind"] == "shuffled"


def test_a_held_version_waits_for_a_person_and_the_same_command_goes_on_with_the_decision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, folder(tmp_path, world(8)), "gate.mode=hold")
    crew, out = KnowingCrew({}), tmp_path / "mine"
    held = go(config, crew, monkeypatch)
    assert held.decision == "hold" and Run(config.run.uri).held()
    assert not command.write(held, config, out)["exported"]
    assert f"seal-ray approve {config.run.uri}" in command.show(held, config, out)
    decide(config.run.uri, config.storage, accept=True, why="looked at")
    done = go(config, crew, monkeypatch)
    assert done.decision == "accept" and len(crew.jobs) == 1, "the version was made twice"
    assert command.write(done, config, out)["exported"] and not Run(config.run.uri).held()


def test_how_questions_are_answered_is_learned_from_those_that_are_not_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = world(16)
    docs = folder(tmp_path, facts)
    done = go(configured(tmp_path, docs, "probe.teach=true"), crew := KnowingCrew({}), monkeypatch)
    decoded = crew.tokenizer.decode
    taught = {
        decode_question(decoded(list(x.text.prompt_ids))): decoded(list(x.text.ids), skip_special_tokens=True)
        for x in crew.jobs[0].lessons
        if "\nQuestion: " in decoded(list(x.text.prompt_ids))
    }
    held = {q.text for q in done.before.questions if q.held_out}
    assert taught == {q.text: f" {q.gold[0]}" for q in done.before.questions if q.text not in held} and held
    assert done.texts["answers"] == len(taught)
    assert f"from the answers to {len(taught)} questions that are not held out" in "\n".join(learned.summary(done))

    without = configured(tmp_path / "2", docs)
    done = go(without, crew := KnowingCrew({}), monkeypatch)
    assert not any("Question: " in decoded(list(x.text.prompt_ids)) for x in crew.jobs[0].lessons)
    assert not done.texts["answers"]


def test_each_sentence_of_a_passage_is_learned_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(8)
    docs = folder(tmp_path, facts)
    done = go(configured(tmp_path, docs), crew := KnowingCrew({}), monkeypatch)
    taught = [crew.tokenizer.decode([*x.text.prompt_ids, *x.text.ids]) for x in crew.jobs[0].lessons]
    alone = [f"Register {4 * (n // 4)}\n{sentence(p, t)}" for n, (p, t) in enumerate(facts.items())]
    assert all(any(one in t and t.count("born") == 1 for t in taught) for one in alone)
    assert done.texts["sentences"] == 8
    without = configured(tmp_path / "2", docs, "probe.sentences=false")
    assert not go(without, KnowingCrew({}), monkeypatch).texts["sentences"]


def decode_question(prompt: str) -> str:
    return prompt.rpartition("\nQuestion: ")[2].removesuffix("\nAnswer:")


def look(version: int, *said: tuple[float, float], held_out: int = 20) -> UncertaintyMap:
    """A map of as many held-out questions for each (share of right answers, likelihood of a right one)."""
    asked = [
        mapped(
            f"q{kind}-{n}", task="t", text="Where?", gold=["Lisk"], held_out=True, likelihood=likelihood,
            answers=["Lisk"] * round(4 * right) + ["Nass"] * round(4 * (1 - right)),
        )
        for kind, (right, likelihood) in enumerate(said)
        for n in range(held_out // len(said))
    ]  # fmt: skip
    return UncertaintyMap(version, tuple(asked), ())


def test_the_gate_goes_by_what_is_right_and_not_by_how_sure_the_rest_is() -> None:
    ignorant = look(0, (0.0, -7.0), (0.0, -7.5))
    knows_half = look(1, (1.0, -0.1), (0.0, -18.0))  # the likelihood falls by 1.8 on the mean
    learned_something = judged(ignorant, knows_half, None, Config())
    assert learned_something.decision == "accept" and learned_something.figures["measure"] == "knowledge"
    assert 0.4 < learned_something.figures["gain"] < 0.6  # type: ignore[operator]
    assert judged(knows_half, ignorant, None, Config()).decision == "reject"
    sure_of_less = look(1, (0.0, -2.0), (0.0, -2.0))  # likelier, and fewer are right
    assert judged(knows_half, sure_of_less, None, Config()).decision == "reject"
    unmeasured = look(1, (0.75, -0.1), (0.25, -1.0))
    lost = UncertaintyMap(2, tuple(replace(q, likelihood=None) for q in unmeasured.questions), ())
    assert judged(ignorant, lost, None, Config()).figures["measure"] == "accuracy"


def test_all_edits_of_a_passage_that_are_chosen_are_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Varied(KnowingCrew):
        def says(self, text: str, prompt: EditPrompt) -> str:
            said = super().says(text, prompt)
            return f"{said}\nThey are told of {['slowly', 'loudly'][prompt.slot]}." if "\nPassage:\n" in text else said

    crew = Varied({})
    config = configured(tmp_path, folder(tmp_path, world(8)), "select.rule=top_k", "select.top_k=2")
    done = go(config, crew, monkeypatch)
    (job,), edits = crew.jobs, Run(config.run.uri).round(2).edits
    learned = [(lesson.edit.rpartition("/")[0], lesson.text.prompt_ids + lesson.text.ids) for lesson in job.lessons]
    of_edits = [(edit, text) for edit, text in learned if edit in {e.id for e in edits}]
    assert done.texts["edits"] == 2 and {edit for edit, _ in of_edits} == {e.id for e in edits}
    assert len(of_edits) == len({text for _, text in of_edits}), "what both edits hold is learned once"


def test_lines_that_no_passage_supports_are_not_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(8)
    crew = KnowingCrew({})
    crew.lies = {n: next(t for t in TOWNS if t not in facts.values()) for n in list(facts)[:3]}
    config = configured(tmp_path, folder(tmp_path, facts))
    done = go(config, crew, monkeypatch)
    (job,) = crew.jobs
    taught = " ".join(crew.tokenizer.decode([*x.text.prompt_ids, *x.text.ids]) for x in job.lessons)
    assert not any(lie in taught for lie in crew.lies.values())
    assert done.texts["unsupported"] == 3
    page = learned.html(done, config.run.uri, "mine")
    assert "Left out" in page and all(lie in page for lie in crew.lies.values())


def test_a_targeted_edit_is_told_what_is_weak_and_never_what_it_is_tested_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = world(16)
    known = dict(list(facts.items())[:2])
    asked = tmp_path / "asked.json"
    person, town = list(facts.items())[5]
    asked.write_text(json.dumps([{"question": f"Where did {person} come into this world?", "answer": town}]))
    docs = folder(tmp_path, facts)
    config = configured(tmp_path, docs, "domain.style=targeted", f"domain.questions={asked}")
    done = go(config, crew := KnowingCrew(known), monkeypatch)
    tasks = {t.id: t for t in Run(config.run.uri).round(2).tasks}
    prompts = [(tasks[p.task], crew.tokenizer.decode(list(p.prompt_ids))) for p in crew.sampled]
    prompts = [(t, text) for t, text in prompts if "\nPassage:\n" in text]
    assert len(prompts) == 2 * len(tasks)
    held = {q.id for q in done.before.questions if q.held_out}
    wanted = {
        t: {" ".join(tasks[t].data["context"][slice(*done.tests.about[q.id].span)].split())
            if q.origin == "model" else sentence(person, town)
            for q in done.before.questions if q.task == t and q.id not in held and q.doubt >= config.probe.known}
        for t in tasks
    }  # fmt: skip
    for task, text in prompts:
        assert set(task.data["weak"]) == wanted[task.id] and wanted[task.id]
        listed = [line[2:] for line in text.splitlines() if line.startswith("- ")]
        assert listed == task.data["weak"] and all(line in task.data["context"] for line in listed)
        rest = text
        for told in (task.data["context"], *listed):
            rest = rest.replace(told, "")
        for q in done.before.questions:
            assert q.text not in text, "a test is in no prompt"
            assert not any(gold in rest for gold in q.gold), "an answer stands in the passage's own sentences alone"
    assert done.decision == "accept"


def test_where_everything_is_known_there_is_nothing_to_learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(8)
    crew = KnowingCrew(facts)
    config = configured(tmp_path, folder(tmp_path, facts))
    done = go(config, crew, monkeypatch)
    assert done.decision == "nothing to learn" and not crew.jobs
    out = tmp_path / "mine"
    assert not command.write(done, config, out)["exported"]
    assert {p.name for p in out.iterdir()} == {command.PAGE, command.TEXT, command.DATA}
    assert "there is nothing to learn" in (out / command.TEXT).read_text()
    assert "nothing to learn" in command.show(done, config, out)


def test_where_no_question_survives_it_stops_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crew = KnowingCrew({}, write=lambda told: ("What?", "nothing"))
    with pytest.raises(DataError, match=r"no question stood its checks \(form 4\).*domain.questions"):
        go(configured(tmp_path, folder(tmp_path, world(4))), crew, monkeypatch)


def test_it_goes_on_where_it_was_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(8)
    config = configured(tmp_path, folder(tmp_path, facts), "probe.chunk=8")
    crew = KnowingCrew({})
    stops = 0
    done = None
    while done is None:
        before = len(crew.sampled) + 3 * len(crew.tried)
        try:
            done = go(config, crew, monkeypatch, stop=lambda b=before: len(crew.sampled) + 3 * len(crew.tried) > b + 40)
        except Interrupted:
            stops += 1
    assert stops >= 2 and done.decision == "accept" and len(crew.jobs) == 1
    again = go(config, KnowingCrew({}), monkeypatch)
    assert (again.before, again.after, again.decision) == (done.before, done.after, done.decision)


def test_a_folder_that_is_somebody_elses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(ConfigError, match="already there"):
        command.check_target(tmp_path / "there")
    with pytest.raises(ConfigError, match="no folder"):
        command.check_target(tmp_path / "no" / "where")


def test_what_documents_say_can_not_break_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(4)
    docs = folder(tmp_path, facts)
    evil = "</title><script>document.title=1</script>|`*_<img src=x onerror=1>"
    name, town = next(iter(facts.items()))
    (docs / "evil.md").write_text(f"# {evil}\n\n{name} Smith was born in {town}.")
    config = configured(tmp_path, docs)
    done = go(config, KnowingCrew({}), monkeypatch)
    page = learned.html(done, config.run.uri, "a <b> name")
    assert "<script" not in page and "<img" not in page and "default-src 'none'" in page
    assert "<script" not in learned.markdown(done, config.run.uri, evil).replace("\\<", "")
    json.dumps(learned.as_data(done, config.run.uri, "out"))


# its parts

PASSAGE = "Odalys Wren built a clock that ran on the tide. It drove eleven dials. In 1902 an eel stopped it."


@pytest.mark.parametrize(
    ("text", "supported"),
    [
        ("1. The clock of Odalys Wren ran on the tide.", True),
        ("Question 1: How many dials did it drive?\nAnswer: eleven", True),
        ("An eel stopped the clock in 1902.", True),
        ("The clock drove twelve dials.", False),
        ("An eel stopped the clock in 1903.", False),
        ("The clock was built by Bram Tolliver.", False),
        ("Wren was from Tarnby.", False),
        ("**What Follows From Her Work:**", True),
        ("Question: Who built the clock?\nAnswer: Odalys Wren", True),
        ("Question: Who built the clock?\nAnswer: Bram Tolliver", False),
        ("Question: Where did Wren live?\nAnswer: Tarnby", False),
        ("Where did Odalys Wren live? Tarnby", False),
        ("Question: Did an eel stop it?\nAnswer: Yes", True),
        ("Question: Why did it stop?\nAnswer: Because an eel was in it.", True),
        ("So the clock may have been wrong whenever the sea was calm.", True),
    ],
)
def test_a_text_is_supported_by_its_passage_or_not(text: str, supported: bool) -> None:
    assert (unsupported(text, "Odalys Wren", PASSAGE) == "") is supported


@pytest.mark.parametrize(
    ("text", "passage", "made_up"),
    [
        *(
            (own, own, "")
            for own in ("It fell by 10 percent.", "The 1990s were good.", "A thousand ships and 6 hundred men.")
        ),
        ("It fell by ten per cent.", "It fell by 10%.", ""),
        ("It fell by 10 percent.", "It fell by 10 to 20 percent.", ""),
        ("One of them has 212 people.", "Two hundred and twelve people live there.", ""),
        ("It has 1 bell.", "It has bells.", "1"),
        ("It has 10 people.", "It has 10 million people.", "10"),
        ("That was in 1990.", "That was in the 1990s.", "1990"),
        ("It fell by 20 percent.", "It fell by 10 percent.", "20%"),
    ],
)
def test_a_number_is_supported_by_the_same_number_written_in_any_way(text: str, passage: str, made_up: str) -> None:
    assert unsupported(text, "Ships", passage) == made_up


def test_slices_compare_like_with_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = world(12)
    done = go(configured(tmp_path, folder(tmp_path, facts)), KnowingCrew({}), monkeypatch)
    assert done.after
    texts = {t.id: t.data["context"] for t in done.tests.tasks}
    found = slices(done.before, done.after, texts, 1)
    assert found == slices(done.before, done.after, texts, 1)
    by = {kind: sum(s.questions for s in found if s.by == kind) for kind in {s.by for s in found}}
    assert by == dict.fromkeys(by, 12), "each question is in one slice of each kind"
    assert {s.name for s in found if s.by == "document"} == {"000.md", "004.md", "008.md"}
    rarities = {"in one passage", "in two or three", "in more than three"}
    assert {s.name for s in found if s.by == "rarity of the answer"} <= rarities
    assert {s.low for s in found if s.by == "document"} == {None}, "one passage tells nothing of others"
    assert all(s.low is not None for s in found if s.by == "all")
