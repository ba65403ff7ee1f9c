"""Code as a domain: tasks with tests, edits, training examples, programs that are judged by tests in a sandbox."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from made_domain import made_of
from text_model import byte_tokenizer

from seal_ray import config_checks
from seal_ray.commands.regrade import regrade
from seal_ray.config import CodeDomain, Config
from seal_ray.domains import Teller, configured
from seal_ray.domains.base import Rejected
from seal_ray.domains.code import Code, build, toy
from seal_ray.domains.code import domain as domain_of_code
from seal_ray.domains.code.prompts import lessons_in, program_in
from seal_ray.errors import ConfigError, DataError, NoIsolation
from seal_ray.loops.history import Run
from seal_ray.policy import versions
from seal_ray.records import Answer, Failure, Recipe, Task, Trial, encode
from seal_ray.sandbox import CaseResult, Program, ProgramResult, choose
from seal_ray.storage.ledger import Ledger

MBPP = {
    "task_id": 7,
    "text": "Write a function to add two numbers.",
    "code": "def add(a, b):\n    return a + b",
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(-1, 1) == 0"],
    "test_setup_code": "import math",
}
MBPP_FIELDS = {"prompt": "text", "tests": "test_list", "setup": "test_setup_code", "solution": "code", "id": "task_id"}
HUMAN = {
    "task_id": "HumanEval/0",
    "prompt": 'def twice(x):\n    """Twice x.\n    >>> twice(2)\n    4\n    """\n',
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x\n",
    "test": "METADATA = {}\n\ndef check(candidate):\n    assert candidate(2) == 4\n    assert candidate(0) == 0\n",
}
HUMAN_FIELDS = {"tests": "test", "entry": "entry_point", "solution": "canonical_solution", "id": "task_id"}
TOY = {"prompt": "Turn the digits around, then raise each.", "solution": "reverse up",
       "tests": [{"args": [[1, 2]], "expected": [3, 2]}, {"args": [[9]], "expected": [0]},
                 {"args": [[0, 5, 5]], "expected": [6, 6, 1]}]}  # fmt: skip


def domain(*rows: Any, chat: bool = False, recipe: Recipe | None = None, **section: Any) -> Code:
    return made_of(build, CodeDomain, rows, chat=chat, recipe=recipe, **section)


def mbpp(**section: Any) -> Code:
    return domain(MBPP, fields=MBPP_FIELDS, **section)


def human(**section: Any) -> Code:
    return domain(HUMAN, fields=HUMAN_FIELDS, shown_tests=0, **section)


def toys(**section: Any) -> Code:
    return domain(TOY, language="toy", **section)


def first(made: Code) -> Task:
    return made.tasks("train")[0]


def answer(text: str, sample: int = 0) -> Answer:
    return Answer("program", text, 3, "stop", -1.0, sample)


# tasks


def test_the_first_tests_are_shown_and_the_rest_are_nowhere_to_be_seen():
    made = mbpp()
    task = first(made)
    prompts = [made.edit_request(task, 0).prompt.text, made.questions(task)[0].prompt.text]
    assert all("assert add(1, 2) == 3" in text and "add(-1, 1)" not in text for text in prompts)
    assert [case["code"] for case in task.data["hidden"]] == MBPP["test_list"][1:]
    assert made.questions(task)[0].gold == ("def add(a, b):\n    return a + b\n```",)
    assert made.questions(task)[0].prompt.text.endswith("Program:\n```python\n")


def test_no_more_hidden_tests_are_run_than_are_configured():
    rows = MBPP | {"test_list": [f"assert add({n}, 0) == {n}" for n in range(6)]}
    for most in (1, 3):
        hidden = first(domain(rows, fields=MBPP_FIELDS, max_tests=most)).data["hidden"]
        assert [case["code"] for case in hidden] == rows["test_list"][1 : 1 + most]


def test_a_check_of_assertions_alone_is_as_many_tests():
    assert [c["code"] for c in first(human()).data["hidden"]] == [
        "candidate = twice\nassert candidate(2) == 4",
        "candidate = twice\nassert candidate(0) == 0",
    ]
    for test in (
        "def check(f):\n    for x in range(3):\n        assert f(x) == 2 * x\n",
        "def check(f):\n    assert f(1) == 2\n    y = 3\n    assert f(y) == 6",
        "def check(",
        "x = [" + "[" * 5000,
    ):
        (case,) = first(domain(HUMAN | {"test": test}, fields=HUMAN_FIELDS, shown_tests=0)).data["hidden"]
        assert case == {"code": "check(twice)"}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "p"}, "tests is missing"),
        ({"prompt": "p", "tests": [5]}, "holds a int"),
        ({"prompt": "p", "tests": [{"args": [1]}]}, "without args and expected"),
        ({"prompt": "p", "tests": [{"args": [1], "expected": 1}]}, "entry is missing"),
        ({"prompt": "p", "tests": "def check(f): pass"}, "entry is missing"),
        ({"prompt": "p", "tests": ["assert 1"], "entry": "os.system"}, "entry is 'os.system'"),
        ({"prompt": "", "tests": ["assert 1"]}, "prompt is empty"),
        ({"prompt": "p", "tests": ["assert 1"]}, "none of 1 tasks has a test that is not shown"),
        ([1], "is no object"),
    ],
)
def test_rows_that_are_no_tasks_are_refused(row, why):
    with pytest.raises(DataError, match=why):
        domain(row)


def test_tasks_without_hidden_tests_are_left_out_and_said_so():
    made = domain(MBPP, MBPP, MBPP | {"test_list": ["assert 1"]}, fields=MBPP_FIELDS)
    assert len(made.tasks("train")) == 1
    assert [w.split(": ")[1] for w in made.warnings] == [
        "1 tasks have no hidden test and are left out",
        "1 tasks come twice and are left out",
    ]


# edits


def test_an_edits_solved_tasks_are_trained_on_as_tasks_are_asked():
    made, tokenizer = mbpp(), byte_tokenizer()
    task = first(made)
    edit = (
        "Task: subtract\nProgram:\n```python\ndef sub(a, b):\n    return a - b\n```\n\n"
        "**Task 2:** multiply\n```python\ndef mul(a, b):\n    return a * b\n```\nTask: divide\n"
    )
    assert made.parse(task, edit) == edit.strip()
    examples, _ = made.training(task, edit, tokenizer)
    learned = [tokenizer.decode([i for i, m in zip(e.ids, e.mask, strict=True) if m]) for e in examples]
    assert learned == [f"def {n}(a, b):\n    return a {s} b\n```</s>" for n, s in (("sub", "-"), ("mul", "*"))]
    asked = tokenizer.decode([i for i, m in zip(examples[0].ids, examples[0].mask, strict=True) if not m])
    assert asked == "Task: subtract\nProgram:\n```python\n"
    assert made.texts(task, edit)[0].startswith("Task: subtract\nProgram: def sub")


def test_an_explanation_is_a_text_and_a_program_alone_solves_the_task_itself():
    explained = lessons_in("Use plus.", "add", language="python", most=9)
    assert [(one.problem, one.said) for one in explained] == [("", "Use plus.")]
    solved = lessons_in("Like this:\n```\nx = 1\n```", "add", language="python", most=9)
    assert [(one.problem, one.said) for one in solved] == [("add", "x = 1")]
    assert lessons_in("Program: up up", "add", language="toy", most=9)[0].said == "up up"


@pytest.mark.parametrize(
    ("text", "kind"),
    [("", "no_text"), ("<think>Task: x", "no_text"), ("Task: x", "unparsable"), ("Solve the task", "copies_prompt")],
)
def test_an_edit_that_teaches_nothing_fails_by_its_kind(text, kind):
    found = mbpp().parse(first(mbpp()), text)
    assert isinstance(found, Failure) and found.kind == kind
    with pytest.raises(Rejected):
        mbpp(recipe=Recipe(max_length=8)).training(first(mbpp()), "a longer text than eight tokens", byte_tokenizer())


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("Sure:\n```python\nx = 1\n```\nBye", "x = 1"),
        ("```\na\n```\n```py\nb\n```", "b"),
        ("def f():\n    pass", "def f():\n    pass"),
        ("Program: x = 1", " x = 1"),
        ("```python\nx = 1", "x = 1"),
        ("", ""),
    ],
)
def test_the_program_of_an_answer(text, program):
    assert program_in(text, "python") == program


def test_an_answer_that_goes_on_within_a_block_is_its_first_one():
    for text in ("x = 1", "x = 1\n```\nTask: more\n```python\ny = 2\n```", "```python\nx = 1\n```"):
        assert program_in(text, "python", begun=True) == "x = 1"


# verdicts


@pytest.fixture
def sandboxed() -> None:
    try:
        choose()
    except NoIsolation as none:
        pytest.skip(str(none))


@pytest.mark.usefixtures("sandboxed")
def test_a_program_counts_by_the_share_of_hidden_tests_that_it_passes():
    made = mbpp(seconds=1.0)
    task = first(made)

    def score(*programs: str) -> float | None:
        answers = [answer(text, n) for n, text in enumerate(programs)]
        (found,) = made.verdicts(task, "c", answers)
        assert found.share == found.score and not found.failure
        return found.score

    assert score("def add(a, b):\n    return a + b") == 1
    assert score("def add(a, b):\n    return abs(a) + abs(b)") == 0.5
    assert score("def add(a, b) return", "def add(a, b):\n    return a + b") == 0.5
    assert score("def add(a, b):\n    while True: pass") == 0, "a loop is wrong, and no failure"


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize(("megabytes", "score"), [(512, 1), (128, 0)])
def test_a_program_has_as_much_memory_as_is_configured(megabytes, score):
    made = mbpp(memory_mb=megabytes)
    (verdict,) = made.verdicts(
        first(made), "c", [answer("def add(a, b):\n    held = bytes(200 << 20)\n    return a + b")]
    )
    assert (verdict.score, verdict.failure) == (score, None)


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize("test", ["while True: pass", "assert add(1", "import no_such_module", "assert 1 == 1", "add"])
def test_a_test_that_is_at_fault_by_itself_gives_no_score_and_takes_none(test):
    sound = "def add(a, b):\n    return a + b"
    for tests, score in (([test], None), ([test, "assert add(2, 2) == 4"], 1.0)):
        made = domain(MBPP | {"test_list": ["assert add(1, 2) == 3", *tests]}, fields=MBPP_FIELDS, seconds=1.0)
        (found,) = made.verdicts(first(made), "c", [answer(sound)])
        assert found.score == score
        assert (found.failure and (found.failure.kind, found.failure.blame)) == (
            None if score else ("broken_tests", "data")
        )


@pytest.mark.usefixtures("sandboxed")
def test_a_test_that_asks_nothing_gives_nothing():
    """As HumanEval fills in: it says nothing of a program."""
    made = human()
    task = first(made)
    task.data["hidden"].append({"code": "candidate = twice\nassert True, 'filled in'"})
    for program, score in (("    return 2 * x", 1), ("    return x", 0.5), ("    return 'nonsense'", 0)):
        assert made.verdicts(task, "c", [answer(program)])[0].score == score


@pytest.mark.usefixtures("sandboxed")
@pytest.mark.parametrize(
    "cheat",
    [
        # what stands in the tests, wherever it may be looked for
        "import gc, glob, sys\ndef add(a, b):\n    texts, frame = [], sys._getframe()\n    while frame:\n"
        "        texts.append(repr(frame.f_locals) + repr(frame.f_code.co_consts))\n        frame = frame.f_back\n"
        "    texts += [o for o in gc.get_objects() if isinstance(o, str)] + [repr(sys.argv)]\n"
        "    for name in glob.glob('/proc/*/cmdline') + glob.glob('/tmp/*'):\n        try:\n"
        "            texts.append(open(name, errors='replace').read())\n        except OSError:\n            pass\n"
        "    for text in texts:\n        for line in text.split('assert ' + 'add')[1:]:\n"
        "            return int(line.split('== ')[1].split()[0])\n",
        # what the harness would say
        "import json, os\nfor fd in range(1, 64):\n    try:\n"
        "        os.write(fd, json.dumps({'nonce': '', 'cases': [['passed', '']] * 2}).encode() + b'\\n')\n"
        "    except OSError:\n        pass\nos._exit(0)\n",
        # a value that equals all others
        "class Yes:\n    def __eq__(self, other):\n        return True\ndef add(a, b):\n    return Yes()\n",
    ],
    ids=["reads the tests", "pretends to be the harness", "equals everything"],
)
def test_a_program_that_cheats_is_wrong(cheat):
    (found,) = mbpp().verdicts(first(mbpp()), "c", [answer(cheat)])
    assert (found.score, found.correct, found.failure) == (0, False, None)


@pytest.mark.usefixtures("sandboxed")
def test_a_completion_goes_on_where_the_tasks_text_ends():
    made = human()
    task = first(made)
    for text in (
        "    return 2 * x",
        "def twice(x):\n    return x + x",
        "```python\ndef twice(x):\n    return x * 2\n```",
    ):
        (found,) = made.verdicts(task, "c", [answer(text)])
        assert found.score == 1, text
    assert made.verdicts(task, "c", [answer("    return x")])[0].score == 0.5


def test_programs_run_where_the_run_says_and_a_sandbox_that_fails_is_no_score():
    made, asked = mbpp(isolation="none"), []

    def elsewhere(programs: Sequence[Program], limits: Any, isolation: str) -> list[ProgramResult]:
        asked.append((programs, limits, isolation))
        return results.pop(0)

    results = [
        [ProgramResult((CaseResult("passed"), CaseResult("timeout")))],
        [ProgramResult(failure=Failure("sandbox", "lost", "infra"))],
        [ProgramResult((CaseResult("unsupported"), CaseResult("passed")))],
        [ProgramResult((CaseResult("unsupported"), CaseResult("unsupported")))],
    ]
    made.run_on(elsewhere)
    found = [made.verdicts(first(made), "c", [answer("x = 1")])[0] for _ in range(4)]
    assert [v.score for v in found] == [0.5, None, 1.0, None]
    assert [v.failure and (v.failure.kind, v.failure.blame) for v in found] == [
        None,
        ("sandbox", "infra"),
        None,
        ("unsupported_tests", "data"),
    ]
    (program,), limits, isolation = asked[0]
    assert program.solution == "x = 1" and limits.cpu == 5 and isolation == "none"
    assert made.verdicts(first(made), "c", [])[0].failure


def test_where_nothing_keeps_programs_apart_a_run_is_refused_before_it_begins(monkeypatch):
    def refuse(wanted: str) -> None:
        raise NoIsolation("nothing keeps programs apart", hint="domain.isolation: none")

    monkeypatch.setattr(domain_of_code, "choose", refuse)
    with pytest.raises(NoIsolation):
        mbpp().run_on(lambda *_: [])
    toys().run_on(lambda *_: [])  # which runs no program of a model's


# the toy language


def test_the_toy_language_is_run_here_and_always_ends():
    made = toys()
    task = first(made)
    assert "1 2 -> 3 2" in made.questions(task)[0].prompt.text
    for text, score in ((" reverse up", 1), ("reverse", 0), (" up reverse\nmore", 1), (" print", 0), ("", 0)):
        assert made.verdicts(task, "c", [answer(text)])[0].score == score, text
    for text in ("up " * 1000, "x" * 100_000, "__import__('os')"):
        with pytest.raises(toy.NoProgram):
            toy.read(text)
    assert toy.run(["sort", "double", "rest", "total"], [3, 9, 1]) == [4]
    assert made.questions(task)[0].gold == ("reverse up",) and made.questions(task)[0].lead == " "


@pytest.mark.parametrize(
    "tests", [[{"args": [[10]], "expected": [1]}], [{"args": ["x"], "expected": []}], ["assert 1"]]
)
def test_tests_that_are_none_of_the_toy_language_are_refused(tests):
    with pytest.raises(DataError, match="none of the toy language"):
        domain(TOY | {"tests": tests}, language="toy")


def test_a_task_is_told_in_words():
    told = Teller(mbpp()).describe(first(mbpp()))
    assert "add two numbers" in told.text and told.questions[0].gold == tuple(MBPP["test_list"][1:])


def test_settings_that_contradict_each_other_are_refused():
    def config(**sections: Any) -> Config:
        return Config.model_validate(
            {"domain": {"name": "code", "data": "x"}, "grading": {"grader": "exact"}} | sections
        )

    assert not config_checks.check(config())
    with pytest.raises(ConfigError, match="a program is right or wrong by itself"):
        config_checks.check(config(grading={"grader": "judge", "judge_url": "http://h/v1", "judge_model": "m"}))
    with pytest.raises(ConfigError, match=r"sampling\.temperature"):
        config_checks.check(config(sampling={"temperature": 0}))
    with pytest.raises(ValueError, match="give both or neither"):
        config(domain={"name": "code", "data": "x", "style": "mixture"})


@pytest.mark.parametrize("chat", ["yes", "no"])
def test_an_answer_is_graded_again_as_it_was_read_before(chat: str, tmp_path: Path) -> None:
    (tmp_path / "tasks.json").write_text(json.dumps([MBPP]))
    section = {"name": "code", "data": str(tmp_path / "tasks.json"), "fields": MBPP_FIELDS, "isolation": "none"}
    config = Config.model_validate(
        {
            "run": {"uri": str(tmp_path / "run")},
            "model": {"name": "builtin:tiny", "chat": chat},
            "domain": section | {"validation": 0, "test": 0},
            "grading": {"grader": "exact", "reward": "accuracy"},
        }
    )
    program = "def add(a, b):\n    return a + b"
    said = {"yes": f"Sure:\n```python\n{program}\n```\nThat is it.", "no": program}
    (task,) = configured(config).tasks("train")
    ledger = Ledger(config.run.uri)
    ledger.create(config.model_dump(mode="json"), {}, 1)
    ledger.acquire("test")
    part = ledger.round(1)
    part.put("tasks.json", {"tasks": [encode(task)], "version": encode(versions.first("b"))})
    part.append("trials", Trial("c", task.id, answers=(answer(said[chat]),)))
    ledger.close()
    regrade(Run(config.run.uri))
    (verdict,) = Ledger(config.run.uri, read_only=True).round(1).records("verdicts").values()
    assert verdict.score == 1
