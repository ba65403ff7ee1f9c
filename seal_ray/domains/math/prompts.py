"""What is asked about problems, and what is read from edits: the same words on both sides."""

import re

from seal_ray.domains.computed import Solved
from seal_ray.records import Prompt

PROBLEM, SOLUTION, ANSWER = "Problem:", "Solution:", "Answer:"
ASKED = {
    "worked": (
        "Solve the problem step by step, so that somebody who reads it can solve others like it. Begin with "
        "`Solution:`, and end with a line `Answer:` and the answer alone."
    ),
    "similar": (
        "Make up several problems like the one below, with other numbers, and solve each step by step. Write each as\n"
        "Problem: …\nSolution: …\nAnswer: …"
    ),
    "method": (
        "Write down a method by which problems like the one below are solved: the steps in their order, what to watch "
        "for, and how the answer is checked. Do not solve the problem itself."
    ),
}
TERSE = {  # without working: a problem and its answer
    "worked": "Answer the problem. Write `Answer:` and the answer alone.",
    "similar": "Make up several problems like the one below and answer each. Write each as\nProblem: …\nAnswer: …",
    "method": ASKED["method"],
}


def edit_prompt(style: str, context: str, shown: str, *, chat: bool, thought: bool) -> str:
    asked = (ASKED if thought else TERSE)[style]
    about = f"{context}\n\n" if context else ""
    # a base model goes on with what such a text begins with
    return f"{asked}\n\n{about}{PROBLEM} {shown}" + ("" if chat else "\n\n")


def question_prompt(problem: str, *, chat: bool, thought: bool) -> Prompt:
    """How a problem is asked, and how it stands in training. A base model goes on after `Solution:` or `Answer:`."""
    if not chat:
        return Prompt(f"{PROBLEM} {problem}\n{SOLUTION if thought else ANSWER}")
    how = f"Solve the problem step by step, and end with a line `{ANSWER}` and the answer alone."
    return Prompt(problem, system=how if thought else "Answer the problem with the answer alone.", chat=True)


# one way to read each character, and stars counted where they follow a word: a line of nothing but stars is read once
_PROBLEM = re.compile(r"^[ \t>#*]*(?:\d+[.)][ \t]*\*{0,3})?problem(?:[ \t]*\d+)?\*{0,3}[ \t]*:\*{0,3}", re.I | re.M)
_SOLUTION = re.compile(r"^[ \t>#*]*solution\*{0,3}[ \t]*:\*{0,3}", re.I | re.M)
_ANSWER = re.compile(r"^[ \t>#*]*(?:final )?answer\*{0,3}[ \t]*:\*{0,3}", re.I | re.M)


def lessons_in(edit: str, shown: str, *, thought: bool, most: int) -> list[Solved]:
    """What an edit teaches, in its order. Problems that it does not answer teach nothing."""
    lessons: list[Solved] = []
    head, *pieces = _PROBLEM.split(edit)
    if head.strip():
        own = _SOLUTION.search(head) or _ANSWER.search(head)
        if own:
            lessons.append(_said(shown, head[own.start() :], thought))
        elif not pieces:  # else it only announces the problems
            lessons.append(Solved("", head.strip()))
    for piece in pieces:
        begins = _SOLUTION.search(piece) or _ANSWER.search(piece)
        problem = " ".join(piece[: begins.start()].split()) if begins else ""
        if begins and problem:
            lessons.append(_said(problem, piece[begins.start() :], thought))
    return [one for one in lessons if one.said][:most]


def _said(problem: str, text: str, thought: bool) -> Solved:
    """The working and the answer as the model is to say them."""
    text = _SOLUTION.sub("", text, count=1)
    parts = _ANSWER.split(text)
    answer = parts[1].strip().split("\n")[0].strip() if len(parts) > 1 else ""
    if not thought:
        return Solved(problem, answer)
    working = parts[0].strip()
    return Solved(problem, f"{working}\n{ANSWER} {answer}" if working and answer else "")


def leads(chat: bool, thought: bool) -> str:
    """What stands between a problem's prompt and its bare answer."""
    if thought:
        return f"{ANSWER} " if chat else f"\n{ANSWER} "
    return "" if chat else " "
