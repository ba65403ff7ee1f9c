"""Questions with their answers, as an edit holds them in words."""

import re
from dataclasses import dataclass

# a label at a line's beginning, with or without a number, list mark or emphasis: "Question 3:", "- **Q:**", "2. Q3."
# possessive, and a run of spaces begun at its first one: a line of nothing but spaces or stars is read once
_SIGN = r"\s*+(?:(?P<number>\d++)\s*+)?\**+\s*+(?P<sign>[:.)])\**+\s*+"
_QUESTION = re.compile(rf"^[\s\-*#>]*+(?:\d++[.)]\s*+\**+\s*+)?(?:question|(?P<letter>q)){_SIGN}", re.IGNORECASE)
_ANSWER = re.compile(rf"^[\s\-*#>]*+(?:answer|(?P<letter>a)){_SIGN}", re.IGNORECASE)
_INLINE = re.compile(r"(?<!\s)\s++\**+(?:answer|a)\s*+\d*+\**+:\**+\s*+", re.IGNORECASE)
_ASKS = ("?", "？", "؟")


@dataclass(frozen=True)
class QuestionAnswer:
    question: str
    answer: str

    def __str__(self) -> str:
        return f"Question: {self.question}\nAnswer: {self.answer}"


def pairs(text: str) -> list[QuestionAnswer]:
    """The pairs in a text, in order and each once; a question without an answer is none."""
    return read_pairs(text)[0]


def read_pairs(text: str) -> tuple[list[QuestionAnswer], list[str]]:
    """The pairs in a text, and the lines that belong to none.

    A text that begins with an unlabelled question was begun by its prompt, which ends with `Question 1:`.
    """
    read: list[tuple[list[str], list[str]]] = []  # question and answer
    rest: list[str] = []
    place: int | None = None  # which of the two the next line goes on with
    option = ""  # the bare letter that the answer began with
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if mark := _QUESTION.match(line):
            read.append(([], []))
            option, place, line = "", 0, line[mark.end() :]
        elif read and (mark := _ANSWER.match(line)) and _is_label(mark, line):
            option = f"{mark['letter']}{mark['sign']}" if mark["letter"] else ""
            place, line = 1, line[mark.end() :]
        elif option and (place == 1 or option[-1] != ":") and _follows(option, line):  # they are answers to choose from
            read[-1][0].extend([option, *read[-1][1]])
            read[-1][1].clear()
            option, place = "", 0
        elif not read and line.rstrip().endswith(_ASKS):
            read.append(([], []))
            place = 0
        elif line.strip(" -") == "":
            place = None if place == 1 else place
        if place == 0 and (mark := _INLINE.search(line)):
            read[-1][0].append(line[: mark.start()])
            place, line = 1, line[mark.end() :]
        if place is None:
            rest.append(line)
        else:
            read[-1][place].append(line)
    flat = [QuestionAnswer(_flat(question), _flat(answer)) for question, answer in read]
    return list(dict.fromkeys(p for p in flat if p.question and re.search(r"\w", p.answer))), rest


def _is_label(mark: re.Match[str], line: str) -> bool:
    """Whether that is an answer's label: `A)` may be the first of several answers on its line to choose from."""
    return bool(not mark["letter"] or mark["number"] or f" b{mark['sign']}" not in line[mark.end() :].casefold())


def _follows(option: str, line: str) -> bool:
    return line.lstrip(" -*").casefold().startswith(f"b{option[-1]}")


def _flat(parts: list[str]) -> str:
    return " ".join(" ".join(parts).split())
