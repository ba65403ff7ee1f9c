"""What is asked of a version in a probe: to write a question, and to answer one with a passage at hand."""

import re
from collections.abc import Sequence

from seal_ray.domains.prompts import entities
from seal_ray.records import Json, Prompt

OFFERED = 8  # answers of a sentence that a question may be written for
LONGEST_ANSWER, LONGEST_QUESTION = 80, 240  # characters
EXAMPLES = (
    (
        "Quill Street",
        "Quill Street is the oldest street of Varnholm. In 1652 a fire burned down all of its houses but two.",
        "In 1652 a fire burned down all of its houses but two.",
        "1652",
        "In which year did a fire burn down the houses of Quill Street?",
    ),
    (
        "Ilse Karrow",
        "Ilse Karrow was a botanist. She found the night fern on an island in Lake Ombra and named it after her dog.",
        "She found the night fern on an island in Lake Ombra and named it after her dog.",
        "Lake Ombra",
        "In which lake is the island on which Ilse Karrow found the night fern?",
    ),
    (
        "The Merrow Bridge",
        "The Merrow Bridge is made of oak. It is painted every spring with a mixture of tar and honey.",
        "It is painted every spring with a mixture of tar and honey.",
        "a mixture of tar and honey",
        "What is the Merrow Bridge painted with every spring?",
    ),
)
ASKED = (
    "Write a question about a sentence, with its short answer as it stands in the sentence. The question names what it "
    "is about, so that somebody who does not see the text understands it."
)
WITH_PASSAGE = "Answer the question from the text, in a few words."
PHRASE = re.compile(r"\b(?:a|an|the|its|his|her|their)\s+(?:[\w'’-]+\s+){0,2}[\w'’-]+", re.IGNORECASE)
_NUMBER_WORDS = """
one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion dozen
"""
_NUMBER = f"(?:{'|'.join(sorted(_NUMBER_WORDS.split(), key=len, reverse=True))})"
NUMBER_WORDS = re.compile(rf"(?i)\b{_NUMBER}(?:[- ](?:and )?{_NUMBER})*\b")
DIGITS = re.compile(r"\d[\d.,:]*\d|\d")
_DANGLING = "of in on at for from by with to and or that which who was were is are had has when where"
DANGLING = frozenset(_DANGLING.split())


def writing_prompt(title: str, context: str, sentence: str, *, chat: bool) -> Prompt:
    """Asks for a question about a sentence, as JSON."""
    shown = [
        f'Title: {t}\nText: {c}\nSentence: {s}\n{{"answer": "{a}", "question": "{q}"}}' for t, c, s, a, q in EXAMPLES
    ]
    own = f"Title: {title}\nText: {context}\nSentence: {sentence}"
    return Prompt("\n\n".join([ASKED, *shown, own]) + ("" if chat else "\n"), chat=chat)


def writing_schema(title: str, sentence: str) -> dict[str, Json]:
    """The form of a question with its answer: one of the sentence's own parts, where it is seen to have some."""
    offered = answers_in(title, sentence)
    answer: dict[str, Json] = {"enum": offered} if offered else {"type": "string", "maxLength": LONGEST_ANSWER}
    return {
        "type": "object",
        "properties": {"answer": answer, "question": {"type": "string", "maxLength": LONGEST_QUESTION}},
        "required": ["answer", "question"],
        "additionalProperties": False,
    }


def answers_in(title: str, sentence: str) -> list[str]:
    """Numbers, names and short phrases of a sentence that a question may ask for, in that order."""
    answers: dict[str, None] = {}
    for pattern in (DIGITS, NUMBER_WORDS):
        answers |= dict.fromkeys(m.group() for m in pattern.finditer(sentence))
    subject = title.casefold()
    answers |= {name: None for name in entities("", sentence) if name.casefold() not in subject and name in sentence}
    for match in PHRASE.finditer(sentence):
        words = match.group().split()
        while len(words) > 2 and words[-1].casefold() in DANGLING:
            words.pop()
        phrase = " ".join(words)
        if len(words) > 1 and words[-1].casefold() not in DANGLING and " ".join(words[1:]).casefold() not in subject:
            answers.setdefault(phrase)
    usable = [a for a in answers if len(a) <= LONGEST_ANSWER and '"' not in a and "\\" not in a]
    return usable[:OFFERED]


def passage_prompt(title: str, context: str, question: str, *, chat: bool) -> Prompt:
    """Asks a question with a passage at hand."""
    t, c, _, a, q = EXAMPLES[1]
    own = f"Text: {title}. {context}\nQuestion: {question}"
    if chat:
        return Prompt(f"{WITH_PASSAGE}\n\n{own}", chat=True)
    return Prompt(f"{WITH_PASSAGE}\n\nText: {t}. {c}\nQuestion: {q}\nAnswer: {a}\n\n{own}\nAnswer:")


def alone_prompt(question: str, *, chat: bool) -> Prompt:
    """Asks a question with nothing beside it."""
    if chat:
        return Prompt(f"Answer the question in a few words.\n{question}", chat=True)
    return Prompt(f"Answer the question in a few words.\n\nQuestion: {question}\nAnswer:")


def spread(sentences: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """So many sentences, evenly over the passage; with fewer there are, each once and then again from the first."""
    if not sentences or count <= 0:
        return []
    if count >= len(sentences):
        return [sentences[n % len(sentences)] for n in range(count)]
    return [sentences[int((n + 0.5) * len(sentences) / count)] for n in range(count)]
