"""How a question about a passage is asked, and what an answer to it comes to."""

import re

from seal_ray.records import Prompt
from seal_ray.text import without_thoughts

FINAL = "Final answer:"


def question_prompt(title: str, question: str, *, chat: bool, thought: bool = False, context: str = "") -> Prompt:
    """How a question is asked: closed book, or with a context to answer it from. A base model goes on after `Answer:`
    or `Thoughts:`.
    """
    before = f"{context}\n\n" if context else ""
    topic = f"Topic: {title}\n" if title else ""
    if chat:
        whence = "from the text" if context else "from memory"
        how = (
            f"First think about what you know of the topic, then end with `{FINAL}` and the answer in a few words."
            if thought
            else "Answer with a few words and nothing else."
        )
        asked = f"{before}{topic}{question}"
        return Prompt(asked, system=f"Answer the question {whence}. {how}", chat=True)
    if thought:
        return Prompt(
            f"{before}Think about the question, then end with `{FINAL}` and a short answer.\n\n"
            f"{topic}Question: {question}\nThoughts:"
        )
    return Prompt(f"{before}Give a short answer to the question.\n\n{topic}Question: {question}\nAnswer:")


def answer_lead(chat: bool, thought: bool) -> str:
    """What stands between the prompt and a gold answer, so that it reads as the model itself would write it."""
    if thought:
        return f"{FINAL} " if chat else f"\n{FINAL} "
    return "" if chat else " "


def final_answer(text: str) -> str:
    """What an answer that thinks aloud comes to: after the last `final answer:`, else the last `answer` (`this answer
    is fine` is no later one than `the final answer is`), else in a box, else its last line.
    """
    text = without_thoughts(text)
    if (mark := _final_mark(text)) and (rest := text[mark.end() :].strip(" \n*")):
        return rest.split("\n")[0].strip(" *")
    if boxed := re.findall(r"\\boxed\{([^{}]*)\}", text):
        return boxed[-1].strip()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines[-1] if lines else ""


_MARK = re.compile(r"(?i)\b(?P<final>final )?answer\b[\s*]*(?:(?P<colon>[:：])|\bis\b)[\s*:]*")


def _final_mark(text: str) -> re.Match[str] | None:
    marks = list(_MARK.finditer(text))
    finals = [m for m in marks if m["final"]]
    if sure := [m for m in finals if m["colon"]]:
        return sure[-1]
    if finals and not (marks[-1]["final"] or marks[-1]["colon"]):
        return finals[-1]
    return marks[-1] if marks else None
