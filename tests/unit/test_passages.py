"""How data becomes passages, and what is said of data that does not."""

import json
import sys
import tracemalloc
import types
from pathlib import Path

import pytest

from seal_ray.domains import passages
from seal_ray.domains.passages import load, split_titles
from seal_ray.errors import ConfigError, DataError, Missing
from seal_ray.loops.rounds import draw
from seal_ray.records import Task

SQUAD = Path(__file__).parents[2] / "../shared/data/squad_dev.json"


def nothing_there(uri: str) -> bytes:
    raise Missing(f"nothing at {uri}")


def read(data, name: str = "mem://x") -> tuple[list[passages.Passage], list[str]]:
    warnings: list[str] = []
    raw = data if isinstance(data, bytes) else (data if isinstance(data, str) else json.dumps(data)).encode()
    return load(name, lambda _: raw, warnings.append), warnings


def flat(title: object = "A", context: str = "Text.", **more) -> dict:
    return {"title": title, "context": context, "questions": [{"question": "Who?", "answer": "Me"}], **more}


def test_flat_json_squad_json_and_json_lines_say_the_same() -> None:
    questions = [{"question": "Who?", "answer": "Me"}, {"question": "Why?", "answer": ["So", "Thus"]}]
    as_flat = [{"title": "Ä b", "context": "Text.", "questions": questions}]
    qas = [
        {"id": "1", "question": "Who?", "answers": [{"text": "Me", "answer_start": 0}]},
        {"id": "2", "question": "Why?", "answers": [{"text": "So"}, {"text": "Thus"}, {"text": "So"}]},
    ]
    squad = {"version": "1.1", "data": [{"title": "Ä_b", "paragraphs": [{"context": "Text.", "qas": qas}]}]}
    rows = [
        {"title": "Ä b", "context": "Text.", "question": "Who?", "answers": {"text": ["Me"], "answer_start": [0]}},
        {"title": "Ä b", "context": "Text.", "question": "Why?", "answers": {"text": ["So", "Thus"]}},
    ]
    forms = [
        as_flat,
        json.dumps(as_flat, indent=2),
        "\ufeff" + json.dumps(as_flat),
        json.dumps(as_flat[0]),
        "\n".join(map(json.dumps, as_flat)) + "\n\n",
        squad,
        {"data": squad["data"], "version": "v2.0"},
        "\n".join(map(json.dumps, rows)),
        "\r\n".join(map(json.dumps, rows)),
    ]
    for form in forms:
        found, warnings = read(form)
        assert not warnings
        (passage,) = found
        assert (passage.title, passage.context) == ("Ä b", "Text.")
        assert passage.questions == {"Who?": ["Me"], "Why?": ["So", "Thus"]}


def test_a_row_may_have_a_field_of_the_name_data() -> None:
    found, warnings = read("\n".join(map(json.dumps, [flat("A", "One.", data="2020"), flat("B", "Two.", data=None)])))
    assert [p.title for p in found] == ["A", "B"] and not warnings


@pytest.mark.skipif(not SQUAD.exists(), reason="../shared/data/squad_dev.json is missing")
def test_published_passages_are_all_read() -> None:
    warnings: list[str] = []
    found = load(str(SQUAD), nothing_there, warnings.append)
    assert (len(found), len({p.title for p in found})) == (1055, 22)
    raw = json.loads(SQUAD.read_text())
    assert found[7].context == raw[7]["context"].strip()


def test_any_cut_of_the_stream_reads_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    path.write_text(
        json.dumps({"version": 1.25, "data": [flat("Ö1"), flat("B", "猫 Other.")], "n": 12}, ensure_ascii=False)
    )
    whole = load(str(path), nothing_there, print)
    assert len(whole) == 2
    for size in (1, 2, 3, 7):
        monkeypatch.setattr(passages, "CHUNK", size)
        assert load(str(path), nothing_there, print) == whole


def test_a_large_file_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    filler = "x" * 10_000
    with path.open("w") as file:
        for _ in range(3000):
            file.write(json.dumps(flat(context="Same.", filler=filler)) + "\n")
    tracemalloc.start()
    found = load(str(path), nothing_there, lambda _: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 1
    assert path.stat().st_size > 30_000_000 > 3 * peak


def test_a_passage_that_comes_twice_is_taken_once_and_reported() -> None:
    again = {**flat(context="Text. "), "questions": [{"question": "When?", "answer": 1981}]}
    elsewhere = {**flat("Another title"), "questions": [{"question": "Where?", "answer": "Here"}]}
    found, warnings = read([flat(), again, elsewhere, flat("B", "Other.")])
    assert [p.title for p in found] == ["A", "B"]
    assert found[0].questions == {"Who?": ["Me"], "When?": ["1981"]}
    assert len(warnings) == 1
    assert "2 passages come twice" in warnings[0]


def test_questions_without_an_answer_are_left_out_and_reported() -> None:
    none = [
        {"question": "Why?", "is_impossible": True, "answers": [{"text": "So"}]},
        {"question": "How?", "answer": "  "},
    ]
    found, warnings = read(
        [flat(questions=[*none, {"question": "Who?", "answer": "Me"}]), flat("B", "b", questions=none)]
    )
    assert [list(p.questions) for p in found] == [["Who?"]]
    assert warnings == ["mem://x: 4 questions without an answer are left out, and 1 passages that have no other"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "holds no passage"),
        ("[]", "holds no passage"),
        (
            [flat(), {"title": "B", "context": "b", "questions": []}],
            r"entry 2 \(line 1\) \('B'\): questions is missing or empty",
        ),
        ([{"title": "B", "context": "b"}], "questions is missing or empty"),
        ([flat(context=" ")], r"entry 1 \(line 1\): context is empty"),
        ([{"title": "B", "questions": []}], "context is missing"),
        ([flat(title="")], "title is empty"),
        ([flat(title=3)], "title is not a text"),
        ([[1]], "is a list, not an object"),
        ([flat(questions=["Who?"])], "question 1: is a str, not an object"),
        ([flat(questions=[{"question": "Who?", "answer": [["x"]]}])], "answer is a list"),
        ([flat(questions=[{"question": "Who?"}])], "none of 1 questions has an answer"),
        ('[{"title": "A"\n "context": 1}]', r"line 2: not JSON: Expecting ',' delimiter, near '\"context"),
        (f"[{json.dumps(flat())}", "the file ends"),
        (f"[{json.dumps(flat())} {{", "expected ','"),
        ('{"title": "A"', "the file ends"),
        ("title,context\nA,b", "line 1: not JSON: expected a passage"),
        ("[" * 100_000, "nested too deeply"),
        (b"\xff\xfe[\x00", "is not UTF-8"),
        ({"data": [{"title": "A", "paragraphs": {}}]}, "paragraphs is not a list"),
        ({"data": [{"title": "A", "paragraphs": [3]}]}, "paragraph 1: is not an object"),
    ],
)
def test_bad_data_is_named_with_its_place_and_mend(data, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught:
        read(data)
    assert "mem://x" in caught.value.message
    assert caught.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no nowhere\.json"):
        load("nowhere.json", nothing_there, print)
    with pytest.raises(DataError, match=str(tmp_path)):
        load(str(tmp_path), lambda p: Path(p).read_bytes(), print)


def test_a_dataset_id_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package `datasets` is replaced: the hub is out of reach, and this is about what is asked of it."""
    asked = []

    def load_dataset(name, configuration, *, split, streaming):
        asked.append((name, configuration, split, streaming))
        if name == "gone/away":
            raise ConnectionError("no route")
        return iter([{"title": "A", "context": "Text.", "question": "Who?", "answers": {"text": ["Me"]}}])

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    assert load("hf:some/squad#plain@validation", nothing_there, print)[0].questions == {"Who?": ["Me"]}
    assert load("hf:some/squad", nothing_there, print)[0].title == "A"
    assert asked == [("some/squad", "plain", "validation", True), ("some/squad", None, "train", True)]
    with pytest.raises(DataError, match="gone/away can't be read: ConnectionError: no route"):
        load("hf:gone/away", nothing_there, print)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'seal-ray\[data\]'"):
        load("hf:some/squad", nothing_there, print)


def test_a_split_keeps_titles_whole_and_depends_on_the_seed_alone() -> None:
    titles = [f"title {n}" for n in range(40)]
    into = split_titles(titles, validation=0.1, test=0.2, seed=1)
    assert into == split_titles(reversed(titles * 2), validation=0.1, test=0.2, seed=1)
    assert [list(into.values()).count(s) for s in ("train", "validation", "test")] == [28, 4, 8]
    assert into != split_titles(titles, validation=0.1, test=0.2, seed=2)


def test_few_titles_all_go_to_training() -> None:
    assert set(split_titles(["a", "b"], validation=0.1, test=0.1, seed=0).values()) == {"train"}
    assert sorted(split_titles(["a", "b", "c"], validation=0.1, test=0.1, seed=0).values()) == [
        "test",
        "train",
        "validation",
    ]


def test_a_weight_says_how_often_a_passage_is_drawn() -> None:
    loaded, _ = read([flat(weight=0.25), flat(title="B", context="Other."), flat(title="C", context="More.", weight=0)])
    assert [p.weight for p in loaded] == [0.25, 1.0, 0.0]
    tasks = [Task(p.title, {}, weight=p.weight) for p in loaded]
    drawn = [draw(tasks, 1, number, 1)[0].id for number in range(1, 401)]
    assert "C" not in drawn and 0.1 < drawn.count("A") / 400 < 0.3, "one of five in the long run"
    assert {t.id for t in draw(tasks, 1, 1, 3)} == {"A", "B"} and draw(tasks, 1, 7, 2) == draw(tasks, 1, 7, 2)


@pytest.mark.parametrize("weight", [-1, "much", True, None])
def test_a_weight_that_is_none_is_refused(weight: object) -> None:
    with pytest.raises(DataError, match="weight is"):
        read([flat(weight=weight)])
