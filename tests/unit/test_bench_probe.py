"""Self-made tests beside people's: the program's three rounds with a table in the place of a model, and its figures."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import pytest
from counted_trials import counted
from knowing_crew import LIKE_THESE, TOWNS, KnowingCrew, sentence, world

from seal_ray.events import RoundCommitted
from seal_ray.loops.history import Run


@pytest.fixture
def program() -> ModuleType:
    return importlib.import_module("bench_probe")


@pytest.fixture
def figures() -> ModuleType:
    return importlib.import_module("probe_figures")


def given(tmp_path: Path, facts: dict[str, str], each: int = 6) -> Path:
    """Passages of so many facts, with edits that teach one, three and all of them."""
    names, rows = list(facts), []
    for start in range(0, len(names), each):
        own = names[start : start + each]
        told = [sentence(n, facts[n]) for n in own]
        rows.append(
            {
                "title": f"Register {start}",
                "context": " ".join(told),
                "questions": [{"question": f"In which town was {n} born?", "answer": facts[n]} for n in own],
                "edits": {"one": told[0], "three": "\n".join(told[:3]), "all": "\n".join(told)},
            }
        )
    path = tmp_path / "edits.json"
    path.write_text(json.dumps(rows))
    return path


def test_edits_are_judged_by_both_kinds_of_tests_and_planted_faults_are_found(
    program: ModuleType, tmp_path: Path
) -> None:
    facts = dict(zip(world(18), [*TOWNS, *TOWNS], strict=False))  # no town twice in a passage
    rows = program.given(given(tmp_path, facts), 3, 900)
    assert len(rows) == 3 and len(rows[0]["edits"]) == 3
    config = program.configured(rows, tmp_path / "bench", [*LIKE_THESE, "domain.add_context=false", "inner.repeats=2"])
    found = program.go(rows, config, lambda *_: KnowingCrew({}))
    assert found["funnel"]["kept"] == found["funnel"]["written"] == 12 and found["coverage"] == 0.6667
    assert found["passages"] == 3 and found["edits"] == 9
    for measure in ("likelihood", "accuracy"):
        told = found["agreement"][measure]
        assert told["passages"] == 3 and told["rank"]["own with people"][0] > 0.8
        assert told["chosen_loses"][0] < told["chance_loses"][0]
    spoiled = found["spoiled"]
    assert spoiled["recall"]["leak"] == 1 and spoiled["recall"]["false"] == 1
    assert spoiled["failed"]["good"] == 0, "what is good is kept"
    false = found["false_lines"]
    assert false["edits"] == 3 and false["planted"] == 9, "every second line of an edit of six"
    assert false["recall"] == 1 and false["precision"] == 1 and false["clean_lost"] == 0
    told = false["by_people"]["accuracy"]
    assert told["clean"][0] == 1 and told["false"][0] == told["checked"][0] == 0.5, "a false line teaches a false town"
    assert [r.committed for r in Run(config.run.uri).rounds()] == [True] * 4
    ended = counted(Run(config.run.uri).events(), config)
    assert len(ended) == 2 and all(done == total > 0 for done, total in ended), "the rounds in which edits are tried"
    told = [e.round for e in Run(config.run.uri).events() if isinstance(e, RoundCommitted)]
    assert told == [1, 2, 3, 4]
    idle = KnowingCrew({})
    assert program.go(rows, config, lambda *_: idle) == found, "all of it comes from the ledger the second time"
    assert not idle.sampled and not idle.tried
    text = "\n".join(importlib.import_module("probe_figures").shown(json.loads(json.dumps(found))))
    assert "12 questions written about 3 passages, 12 stood every check" in text and "rank correlation" in text
    assert "9 false lines in 3 edits: the check finds 100%" in program.false_lines.shown(false)[0]


def test_a_question_is_spoiled_as_its_role_says(program: ModuleType) -> None:
    from seal_ray.records import Task

    text = "In 1902 an eel stopped the clock of Odalys Wren. In 1911 Bram Tolliver moved it to Selmouth."
    task = Task("t", {"title": "Clocks", "context": text})
    asked, role = program.spoil(task, "When did an eel stop the clock?", "1902", "false")
    assert role == "false" and asked.answers == ("1911",)
    asked, role = program.spoil(task, "When did an eel stop the clock?", "1902", "leak")
    assert role == "leak" and asked.question == "When did an eel stop the clock, which is 1902?"
    asked, role = program.spoil(task, "When did an eel stop the clock?", "1902", "two")
    assert role == "two" and asked.question == "Which number has to do with Clocks?" and asked.answers == ("1902",)
    assert program.spoil(task, "What stopped it?", "an eel that nobody saw", "two")[1] == "good", "where it can't be"


def test_figures_tell_agreement_from_disagreement(figures: ModuleType) -> None:
    def judged(sign: int) -> list[object]:
        made = []
        for task in range(6):
            for edit in range(4):
                for repeat in (0, 1):
                    people = {f"p{n}": 0.1 * edit + 0.01 * n for n in range(4)}
                    own = {f"o{n}": sign * 0.1 * edit for n in range(2)}
                    made.append(
                        figures.Judged(f"t{task}", f"t{task}e{edit}", repeat, people | own, {}, frozenset(people))
                    )
        return made

    good, bad = (figures.agreement(judged(sign), "likelihood", 1) for sign in (1, -1))
    assert good["rank"]["own with people"][0] == 1 and good["share_kept"] == 1 and good["chosen_loses"][0] == 0
    assert bad["rank"]["own with people"][0] == -1 and bad["chosen_loses"][0] == pytest.approx(0.3)
    assert bad["rank"]["halves of people"][0] == 1, "the ceiling does not look at the model's own questions"
    assert figures.agreement([], "accuracy", 1) is None


def test_precision_counts_good_questions_that_fail(figures: ModuleType) -> None:
    rows = [{"role": "false", "kept": False, "by": "vote"}, {"role": "two", "kept": True, "by": None}]
    rows += [{"role": "good", "kept": n > 0, "by": None if n else "vote"} for n in range(3)]
    found = figures.found_spoiled(rows)
    assert found["recall"] == {"false": 1.0, "two": 0.0} and found["precision"] == 0.5
    assert found["good_lost_by"] == {"vote": 1}
    assert figures.surviving({"written": 10, "by_people": 0, "lost": {"form": 5, "vote": 1}}) == {
        "form": 0.5,
        "vote": 0.8,
    }
