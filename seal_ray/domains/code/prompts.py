"""What is asked about a task, and what is read from edits and answers: the same words on both sides."""

import re
from collections.abc import Sequence

from seal_ray.domains.computed import Solved
from seal_ray.records import Json, Prompt

TASK, PROGRAM = "Task:", "Program:"
FENCE = "```"
ASKED = {
    "solve": "Solve the task below. Write `Program:` and the program.",
    "variations": ("Make up several variations of the task below, and solve each. Write each as\nTask: …\nProgram: …"),
    "explain": (
        "Explain how tasks like the one below are solved: the idea, the steps, which cases are easily overlooked, and "
        "what is to be known about the language for it."
    ),
    "tests": (
        "Write tests for the task below: for each a call and what it gives, with a line that says why. Think of edge "
        "cases."
    ),
}


def edit_prompt(style: str, task: str, *, chat: bool, language: str) -> str:
    how = (
        f" Put programs into {FENCE}python blocks." if language == "python" and style in {"solve", "variations"} else ""
    )
    # a base model goes on with what such a text begins with
    return f"{ASKED[style]}{how}\n\n{TASK} {task}" + ("" if chat else "\n\n")


def told(prompt: str, shown: Sequence[Json]) -> str:
    """A task in words, with the tests that may be seen."""
    lines = [_in_words(case) for case in shown]
    return "\n".join([prompt, *lines])


def _in_words(case: Json) -> str:
    if "code" in case:
        return case["code"]
    return f"{', '.join(map(_written, case['args']))} -> {_written(case['expected'])}"


def _written(value: Json) -> str:
    digits = isinstance(value, list) and all(type(x) is int and 0 <= x < 10 for x in value)
    return " ".join(map(str, value)) if digits and value else repr(value)


def question_prompt(task: str, *, chat: bool, language: str) -> Prompt:
    """How a task is asked, and how it stands in training. A base model goes on after the mark of a program."""
    if chat:
        how = f"one {FENCE}python block" if language == "python" else "the words of the program"
        return Prompt(task, system=f"Solve the task. Answer with {how} and nothing else.", chat=True)
    return Prompt(f"{TASK} {task}\n{PROGRAM}" + (f"\n{FENCE}python\n" if language == "python" else ""))


def stops(chat: bool, language: str) -> tuple[str, ...]:
    if chat:
        return ()
    return (f"\n{FENCE}",) if language == "python" else ("\n",)


def as_said(program: str, *, chat: bool, language: str) -> str:
    """A program as the model is to say it."""
    if language == "python":
        return f"{FENCE}python\n{program}\n{FENCE}" if chat else f"{program}\n{FENCE}"
    return program if chat else f" {program}"


# one way to read each character, and stars counted where they follow a number: a line of nothing but stars, or a block
# that begins with nothing but blanks, is read once
_TASK = re.compile(r"^[ \t>#*]*(?:\d+[.)]\s*\*{0,3})?task(?:[ \t]*\d+)?\*{0,3}[ \t]*:\*{0,3}", re.I | re.M)
_PROGRAM = re.compile(r"^[ \t>#*]*(?:program|solution)\*{0,3}[ \t]*:\*{0,3}", re.I | re.M)
_BLOCK = re.compile(r"```[ \t]*+[\w+-]*+[ \t]*+\n(.*?)(?:\n[ \t]*```|\Z)", re.S)


def program_in(text: str, language: str, *, begun: bool = False) -> str:
    """The program of an answer: in its last block, else after its mark, else all of it.

    `begun`: the prompt has begun a block, which the answer goes on with.
    """
    marked = _PROGRAM.split(text)
    if language == "toy":
        return marked[-1].strip().split("\n")[0].strip()
    if begun:
        return text.strip("\n").removeprefix(f"{FENCE}python").split(f"\n{FENCE}")[0].strip("\n")
    if blocks := _BLOCK.findall(text):
        return blocks[-1].strip("\n")
    return marked[-1].split(FENCE)[0].strip("\n") if len(marked) > 1 else text.split(FENCE)[0].strip("\n")


def lessons_in(edit: str, task: str, *, language: str, most: int) -> list[Solved]:
    """What an edit teaches, in its order. A task that it does not solve teaches nothing."""
    head, *pieces = _TASK.split(edit)
    lessons: list[Solved] = []
    if head.strip():
        own = _solved(head, language)
        if own:
            lessons.append(Solved(task, own))
        elif not pieces:  # else it only announces the tasks
            lessons.append(Solved("", head.strip()))
    for piece in pieces:
        begins = min((m.start() for m in (_PROGRAM.search(piece), _BLOCK.search(piece)) if m), default=-1)
        asked, program = (piece[:begins].strip(), _solved(piece[begins:], language)) if begins >= 0 else ("", "")
        if asked and program:
            lessons.append(Solved(asked, program))
    return lessons[:most]


def _solved(text: str, language: str) -> str:
    """The program in a text that says where it is; empty where none is marked."""
    marked = _PROGRAM.search(text) or (language == "python" and _BLOCK.search(text))
    return program_in(text, language) if marked else ""
