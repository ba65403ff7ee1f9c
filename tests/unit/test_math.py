"""Mathematics as a domain: answers read and compared, tasks, edits, training examples, questions, verdicts."""

import resource
import time

import pytest
from made_domain import made_of
from text_model import byte_tokenizer

from seal_ray import config_checks
from seal_ray.config import Config, MathDomain
from seal_ray.domains import Teller
from seal_ray.domains.base import Rejected
from seal_ray.domains.math import Mathematics, build, symbols
from seal_ray.domains.math.answers import final, majority, right
from seal_ray.domains.math.expressions import NoExpression, read
from seal_ray.errors import ConfigError, DataError
from seal_ray.records import Answer, Example, Failure, Recipe, Task

# answers


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3 and 4 make 7.\n#### 7", "7"),
        (r"So it is $\boxed{\frac{1}{2}}$. Sure.", r"\frac{1}{2}"),
        (r"\boxed{3} no, \boxed{\sqrt{\frac{2}{3}}}", r"\sqrt{\frac{2}{3}}"),
        ("**Final Answer:** 12 dollars", "12"),
        ("The answer is 1,234.", "1,234"),
        ("Solution: 2+2\nAnswer: 4\nAnswer: 5", "5"),
        ("x = 4", "x = 4"),
        ("There are 3 apples and 14 pears left", "14"),
        ("<think>Answer: 3</think>Answer: 4", "4"),
        ("<think>Answer: 3", ""),
        ("no number here", "no number here"),
        ("Answer: .5", ".5"),
        ("Answer: $.25.$", ".25"),
        (r"\boxed{1", "1"),
        ("The answer is 5 percent.", "5%"),
        ("It rose by 5 percent last year", "5%"),
        ("There are 1{,}000 apples left", "1{,}000"),
        (r"Answer: \$18", "18"),
        ("", ""),
    ],
)
def test_what_an_answer_comes_to(text, said):
    assert final(text) == said


SAME = [
    ("1,234", "1234"), ("0.5", r"\frac12"), ("1/2", r"\dfrac{1}{2}"), ("50%", "0.5"), ("x=5", "5"), ("$18", "18"),
    (r"\text{ east}", "east"), ("2^{10}", "1024"), ("2**10", "1024"), ("-(-3)", "3"), ("1, 2", "2,1"), (".5", "1/2"),
    ("(1,2)", r"\left(1, 2\right)"), (r"\{1, 2\}", r"\{2,1\}"), ("3.0000001", "3"), ("90^\\circ", "90"), ("|-4|", "4"),
    ("3 \\times 4", "12"), ("-5", "-5"), ("A", "a"), ("(-1)^{1001}", "-1"), (r"\$18", "18"), ("1{,}000", "1000"),
    ("9 * 2 = 18", "18"), ("16-3-4=9", "9"), ("x = 9*2 = 18", "18"), ("5 percent", "5%"), (r"3\frac{1}{2}", "7/2"),
    (r"-3\frac12", "-3.5"), (r"2 \cdot 3\tfrac{1}{2}", "7"), (r"2^3\frac{1}{2}", "4"), (r"25\text{ cm}^2", "25"),
    (r"9.8\,\mathrm{m/s}^{2}", "9.8"), ("42 apples", "42"),
]  # fmt: skip
OTHER = [
    ("(1,2]", "(1,2)"), ("3.14", r"\pi"), ("5", "-5"), ("1,2", "1,3"), ("", "1"), ("east", "west"), ("1/0", "1"),
    ("1 2", "12"), ("(1,2)", "(2,1)"), ("3.1", "3"), ("f(", "1"), ("10", "1"), ("no", "yes"),
    (r"3\frac{1}{2}", "3/2"), (r"25\text{ cm}^2", "625"), ("2x+3y=12", "12"), ("2x+3y=12", "4x+5y=12"), ("x < 5", "5"),
    ("9 * 2 = 18", "9"), ("May 5", "April 5"), ("negative 5", "5"), ("2 million", "2"), ("10:30", "30"),
    ("x <= 5", "5"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), SAME)
def test_answers_that_are_written_differently_are_the_same(one, other):
    assert right([(one, [other]), (other, [one])]) == [True, True]


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_answers_that_differ_are_not(one, other):
    assert right([(one, [other])]) == [False]


@pytest.mark.parametrize(
    ("text", "gold"),
    [
        (r"\boxed{\$18}", "18"),
        ("She pays\n9 * 2 = 18", r"\$18"),
        ("The answer is 9 * 2 = 18.", "18"),
        ("The answer is 9 * 2 = 18 dollars in all.", "18"),
        (r"\boxed{16-3-4=9}", "9"),
        ("The answer is 42 apples.", "42"),
        ("The answer is that she has 18 left.", "18"),
        ("The final answer is 42. I hope it is correct.", "42"),
        ("The answer is 5 percent", "5%"),
        ("The answer is 5 percent", "5"),
        ("12 percent.", "12"),
        (r"\boxed{1{,}000}", "1,000"),
        ("The answer is May 5.", "May 5"),
    ],
)
def test_what_stands_around_a_right_answer_makes_it_no_wrong_one(text, gold):
    assert right([(final(text), [gold])]) == [True]


def test_a_vote_counts_numbers_with_and_without_words():
    assert majority(["42 apples", "42", "7"]) == "42 apples"
    assert majority(["42", "42 apples", "7"]) == "42"


def test_roots_letters_and_functions_are_compared_by_sympy_in_one_process(monkeypatch):
    started = []
    real = symbols._ask
    monkeypatch.setattr(symbols, "_ask", lambda pairs: started.append(len(pairs)) or real(pairs))
    same = [(r"2\sqrt{2}", r"\sqrt{8}"), ("x^2-1", "(x-1)(x+1)"), (r"\frac{\sqrt{3}}{3}", r"1/\sqrt 3"), ("2x", "x+x")]
    other = [(r"\sqrt{2}", r"\sqrt{3}"), ("x", "y"), ("sin(x)", "cos(x)")]
    pairs = [(one, [gold]) for one, gold in [*same, *other]]
    assert right(pairs) == [True] * len(same) + [False] * len(other)
    assert started == [len(pairs)]


def test_an_expression_that_grows_without_end_is_wrong_and_costs_little():
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.process_time()
    huge = [
        "9**9**9**9",
        "9^{9^{9^9}}",
        "(10^10^10)!",
        "1" * 1_000_000,
        "(" * 1_000_000,
        "1+" * 500_000,
        "-" * 1_000_000,
    ]
    huge += [r"\frac" * 200_000, "{" * 300, "((2^4000)^4000)^4000", r"\boxed{" * 100_000, "3 " * 500_000, "10^1000000"]
    assert right([(final(text), ["3"]) for text in huge if not text.startswith("3")]) == [False] * (len(huge) - 1)
    assert time.process_time() - began < 20
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert after.ru_maxrss - before.ru_maxrss < 200_000  # kB


def test_what_sympy_does_not_end_with_is_not_equal_and_the_rest_is_asked_on(monkeypatch):
    monkeypatch.setattr(symbols, "SECONDS", 1)
    endless = "(((x+1)^99+y)^99+z)^99"
    pairs = [(endless, [endless + "+x-x^1.0*1"]), ("x+x", ["2x"])]
    assert right(pairs)[1] is True
    # a process that dies over a pair leaves the next ones to another
    real = symbols._ask
    monkeypatch.setattr(symbols, "_ask", lambda pairs: [] if len(pairs) == 2 else real(pairs))
    assert right([("y", ["x"]), ("x+x", ["2x"])]) == [False, True]


def test_nothing_that_is_read_is_run(tmp_path):
    mark = tmp_path / "mark"
    for text in (f"__import__('os').system('touch {mark}')", f"open('{mark}','w')", "lambda: 1", "x.__class__"):
        assert right([(text, ["1"])]) == [False]
        with pytest.raises(NoExpression):
            read(text)
    assert not mark.exists()


def test_a_majority_counts_what_answers_are_and_not_how_they_are_written():
    assert majority(["7", "1/2", "0.5", r"\frac12", "7"]) == "1/2"
    assert majority(["1", "2", "3"]) is None and majority([]) is None and majority(["", "", "1"]) is None
    assert majority(["1", "2", "1.0", "2"]) is None, "a tie"


# the domain

ROWS = [{"problem": f"{n} + 1", "answer": f"One more.\n#### {n + 1}", "group": "sums"} for n in range(10)]
EDIT = "Problem: 3 + 1\nSolution: One more than 3.\nAnswer: 4\n\nProblem: 5 + 1\nSolution: 5 and 1.\nAnswer: 6\n"


def domain(rows=None, *, chat=False, recipe=None, **section) -> Mathematics:
    rows = ROWS if rows is None else rows
    return made_of(build, MathDomain, rows, chat=chat, recipe=recipe, **section)


def answer(question: str, text: str, sample: int = 0) -> Answer:
    return Answer(question, text, 3, "stop", -1.0, sample)


def first(made: Mathematics) -> Task:
    return made.tasks("train")[0]


def test_a_problem_is_in_one_task_and_shown_ones_are_not_asked():
    made = domain(validation=0.5, asked=4)
    tasks = [*made.tasks("train"), *made.tasks("validation")]
    assert len(tasks) == 2 and len(made.tasks("validation")) == 1
    every = [p for t in tasks for p in (*t.data["shown"], *(q["problem"] for q in t.data["asked"]))]
    assert sorted(every) == sorted(row["problem"] for row in ROWS)
    assert all(q["answers"] == [str(int(q["problem"][0]) + 1)] for t in tasks for q in t.data["asked"])
    assert tasks == [*domain(list(reversed(ROWS)), validation=0.5).tasks("train"), *made.tasks("validation")]


def test_fields_have_the_names_that_the_configuration_gives_them():
    rows = [{"q": str(n), "a": n, "kind": n % 2, "text": "About numbers"} for n in range(8)]
    names = {"problem": "q", "answer": "a", "group": "kind", "context": "text"}
    tasks = domain(rows, fields=names, asked=3).tasks("train")
    assert {(t.group, t.data["context"]) for t in tasks} == {("0", "About numbers"), ("1", "About numbers")}
    with pytest.raises(DataError, match=r"line 1: question is missing"):
        domain(rows, fields={"problem": "question"})


def test_problems_without_answers_are_left_out_unless_none_are_needed():
    rows = [*ROWS, {"problem": "what?"}, ROWS[0]]
    assert [w.split(": ")[1] for w in domain(rows).warnings] == [
        "1 problems have no answer and are left out",
        "1 problems come twice and are left out",
    ]
    bare = [{"problem": row["problem"]} for row in ROWS]
    with pytest.raises(DataError, match="none of 10 problems has an answer"):
        domain(bare)
    task = first(domain(bare, gold="majority"))
    assert not any(q.gold for q in domain(bare, gold="majority").questions(task))


@pytest.mark.parametrize("rows", [[], [[1]], [{"problem": 3.5, "answer": None}], [{"problem": "\ud800", "answer": 1}]])
def test_rows_that_are_no_problems_are_refused(rows):
    with pytest.raises(DataError, match=r"domain\.data"):
        domain(rows)


def test_the_edit_writer_sees_no_answer_and_no_sibling():
    made = domain()
    task = first(made)
    text = made.edit_request(task, 0).prompt.text
    assert task.data["shown"][0] in text
    assert not any(q["problem"] in text for q in task.data["asked"])
    styles = {
        domain(style="mixture", mixture={"worked": 1, "method": 1}).edit_request(task, n).style for n in range(20)
    }
    assert styles == {"worked", "method"}


def test_an_edits_problems_are_trained_on_as_problems_are_asked():
    tokenizer = byte_tokenizer()
    made = domain()
    task = first(made)
    assert made.parse(task, EDIT) == EDIT.strip()
    examples, recipe = made.training(task, EDIT, tokenizer)
    assert recipe == Recipe() and len(examples) == 2
    texts = [(_part(e, False, tokenizer), _part(e, True, tokenizer)) for e in examples]
    asked = made.questions(task)[0].prompt.text.replace(task.data["asked"][0]["problem"], "3 + 1")
    assert texts[0] == (asked, " One more than 3.\nAnswer: 4<end>")
    assert [t.endswith("Answer: 6") for t in made.texts(task, EDIT)] == [False, True]
    (alone,), _ = made.training(task, None, tokenizer)
    assert all(alone.mask) and task.data["shown"][0] in _part(alone, True, tokenizer)


def _part(example: Example, learned: bool, tokenizer) -> str:
    ids = [i for i, m in zip(example.ids, example.mask, strict=True) if m is learned]
    return tokenizer.decode(ids).replace(tokenizer.eos_token, "<end>")


def test_a_solution_of_the_shown_problem_a_method_and_bare_answers_are_read():
    made, tokenizer = domain(), byte_tokenizer()
    task = first(made)
    worked = "Solution: add one\nAnswer: 9"
    assert made.texts(task, worked) == [f"Problem: {task.data['shown'][0]}\nSolution: add one\nAnswer: 9"]
    method = "Add one. Check by taking it away."
    (example,), _ = made.training(task, method, tokenizer)
    assert all(example.mask) and made.texts(task, method) == [method]
    announced = f"Here are some:\n{EDIT}"
    assert made.texts(task, announced) == made.texts(task, EDIT), "what announces problems is no lesson"
    terse = domain(thought=False)
    pairs = terse.texts(task, "**Problem 1:** 3 + 1\n**Answer:** 4\n\n2. Problem: 5+1\nAnswer: 6 of course\nProblem: 9")
    assert pairs == ["Problem: 3 + 1\nAnswer: 4", "Problem: 5+1\nAnswer: 6 of course"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "no_text"),
        ("<think>Problem: 1\nAnswer: 1", "no_text"),
        ("Problem: 3 + 1", "unparsable"),
        ("Make up several problems like the one below", "copies_prompt"),
    ],
)
def test_an_edit_that_teaches_nothing_fails_by_its_kind(text, kind):
    made = domain()
    found = made.parse(first(made), text)
    assert isinstance(found, Failure) and found.kind == kind


def test_what_can_not_be_trained_on_is_rejected():
    made = domain(recipe=Recipe(max_length=8))
    for content in (EDIT, 5, "Problem: 1"):
        with pytest.raises(Rejected):
            made.training(first(made), content, byte_tokenizer())


def test_answers_are_right_or_wrong_by_themselves_and_several_count_by_their_share():
    made = domain()
    task = first(made)
    golds = [q.gold[0] for q in made.questions(task)]
    answers = [answer("0", f"Some work.\nAnswer: {golds[0]}.0"), answer("1", "Answer: nothing")]
    answers += [answer("2", f"Answer: {golds[2]}" if n < 2 else "Answer: 77", n) for n in range(3)]
    found = {v.question: v for v in made.verdicts(task, "c", answers)}
    assert (found["0"].correct, found["1"].correct, found["2"].correct) == (True, False, True)
    assert found["2"].share == pytest.approx(2 / 3) and found["0"].grader == "exact"
    assert found["3"].failure and found["3"].failure.kind == "no_answer", "a failure is no zero"


def test_an_answer_of_a_megabyte_is_wrong_and_one_in_the_data_is_left_out():
    made = domain()
    task = first(made)
    huge = ["1+" * 500_000 + "1", "Answer: " + "(" * 1_000_000, "9" * 1_000_000]
    (found, *_) = made.verdicts(task, "c", [answer("0", text, n) for n, text in enumerate(huge)])
    assert (found.score, found.correct, found.failure) == (0, False, None)
    made = domain([*ROWS, {"problem": "how many?", "answer": "1" * 1_000_000}])
    assert [w.split(": ")[1] for w in made.warnings] == [
        "1 problems have an answer of more than 400 characters and are left out"
    ]
    assert all(len(a) < 9 for t in made.tasks("train") for q in t.data["asked"] for a in q["answers"])


def test_without_gold_what_most_samples_say_is_right():
    made = domain(gold="majority")
    task = first(made)
    said = ["1/2", "0.5", "3"]
    found = made.verdicts(task, "c", [answer("0", f"Answer: {s}", n) for n, s in enumerate(said)])
    assert found[0].share == pytest.approx(2 / 3)
    none = made.verdicts(task, "c", [answer("0", f"Answer: {n}", n) for n in range(3)])
    assert none[0].failure and none[0].failure.kind == "no_majority" and none[0].credit is None, "a failure is no zero"
    tie = made.verdicts(task, "c", [answer("0", f"Answer: {n % 2}", n) for n in range(4)])
    assert tie[0].failure and tie[0].failure.kind == "no_majority"


def test_a_task_is_told_in_words():
    made = domain()
    task = first(made)
    told = Teller(made).describe(task)
    assert told.title == "sums" and task.data["shown"][0] in told.text
    assert [q.text for q in told.questions] == [q["problem"] for q in task.data["asked"]]


# settings


def test_settings_that_contradict_each_other_are_refused():
    def config(**sections) -> Config:
        return Config.model_validate(
            {"domain": {"name": "math", "data": "x"}, "grading": {"grader": "exact"}} | sections
        )

    assert not config_checks.check(config(answering={"max_tokens": 400}))
    with pytest.raises(ConfigError, match=r"grading\.grader"):
        config_checks.check(config(grading={"grader": "judge", "judge_url": "http://h/v1", "judge_model": "m"}))
    with pytest.raises(ConfigError, match=r"domain\.gold"):
        config_checks.check(config(domain={"name": "math", "data": "x", "gold": "majority"}))
    agree = {"samples": 5, "temperature": 0.8, "max_tokens": 400}
    assert not config_checks.check(
        config(
            domain={"name": "math", "data": "x", "gold": "majority"},
            answering=agree,
            grading={"grader": "exact", "reward": "accuracy"},
        )
    )
    with pytest.raises(ValueError, match="leave no tasks"):
        config(domain={"name": "math", "data": "x", "validation": 0.5, "test": 0.5})
