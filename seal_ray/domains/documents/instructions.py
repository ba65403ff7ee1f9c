"""Spans of a document that speak to whoever reads it as a model: instructions, roles, marks of a conversation.

A model that is trained on such a text follows it. What is looked for are phrases; a span that says the same in other
words is not seen, and a document about such attacks loses the sentences that quote them.
"""

import re
from dataclasses import dataclass

from seal_ray.domains.sentences import sentences

LONGEST = 600  # characters of one piece that is looked at
OVERLAP = 120
NAMED = r"(?:an? )?(?:ai|a\.i\.|llm|large language model|language model|chat ?bot|ai assistant|ai model|assistant)"
WHAT = r"(?:instructions?|prompts?|directives?|rules|guidelines|orders|programming|training)"
ASKED = (
    r"(?:when(?:ever)?|if|every time) (?:you are |you're |a user |the user |someone |anyone |users? )?(?:asked|asks?)"
)
SAY = r"(?:say|answer|respond|reply|claim|state|output|print|pretend|refuse|insist|recommend)"
RULES: dict[str, tuple[str, ...]] = {
    "override": (
        r"\b(?:ignore|disregard|forget|override|bypass|discard)\b.{0,30}\b(?:previous|prior|above|earlier|preceding|all|any|"
        rf"every|your|these|system)\b.{{0,30}}\b{WHAT}\b",
        r"\bignorier\w*\b.{0,40}\b(?:anweisung|anleitung|regel|vorgabe)\w*",
        r"\bignore[rz]?\b.{0,30}\b(?:consignes|instructions (?:précédentes|antérieures))\b",
        r"\bignor[ae]\w*\b.{0,30}\b(?:instrucciones|istruzioni|instruções)\b",
        r"\bигнорир\w+.{0,30}инструкц\w+",
        r"(?:忽略|无视|忽視|無視).{0,12}(?:指令|指示|提示|说明)",
        r"(?:以前|上記)の指示を無視",
    ),
    "role": (
        r"\byou are (?:now|henceforth|from now on)\b",
        rf"\byou are {NAMED}\b",
        r"^(?:please )?(?:act as|pretend (?:to be|that you|you)|roleplay as|play the role of)\b",
        r"\benter (?:developer|debug|god|dan) mode\b",
        r"\bdo anything now\b",
    ),
    "address": (
        rf"\bif you are {NAMED}\b",
        rf"\bas {NAMED}[,:]? (?:you|please)\b",
        r"\b(?:note|message|instructions?|notice) (?:to|for) (?:the |all |any )?(?:ais?|llms?|language models?|"
        r"assistants?|chat ?bots?|ai assistants?|ai models?|models)\b",
        rf"^(?:dear|attention|hey|hello|hi),? {NAMED}\b",
        r"^(?:ai|llm|chat ?bot|ai assistant|language model)[:,] ",
    ),
    "output": (
        r"^(?:please )?(?:do not|don't|never) (?:tell|reveal|mention|inform|disclose|say)\b.{0,40}\b(?:users?|humans?|"
        r"instructions?|prompt)\b",
        r"^(?:please )?(?:always |only )?(?:respond|reply|answer|output|print)\b(?: only| exactly| nothing but)\b",
        r"^(?:please )?(?:always |only )?(?:respond|reply|answer) with (?:the (?:word|phrase|text|following)|[\"'“‘])",
        r"\b(?:end|begin|start) (?:every|each|all) (?:of your )?(?:answer|response|reply|message|sentence)s?\b",
    ),
    "when asked": (rf"\b{ASKED}\b.{{0,80}}[,;:] ?(?:always |just |only |you must |you should |you will )?{SAY}\b",),
    "from now on": (
        r"^from now on\b.{0,20}\b(?:you|always|never|answer|respond|reply|speak|write|ignore|every)\b",
        r"^(?:your (?:new |only |real )?(?:task|goal|instructions?|purpose|objective) (?:is|are)(?: now)?)\b",
    ),
    "secret": (
        r"\b(?:reveal|print|show|repeat|output|leak|display|tell me)\b.{0,12}\b(?:your|the) (?:system|hidden|initial|"
        r"original|secret|full) (?:prompt|instructions?|message)\b",
    ),
    "mark": (
        r"<\|[a-z_]{2,30}\|>",
        r"\[/?INST\]|<</?SYS>>|</?(?:system|assistant|instructions?)>",
        r"^#{2,} ?(?:system|instructions?|assistant|human)\b ?:",
        r"^(?:system(?: prompt| message)?|assistant) ?: ",
        r"\b(?:begin|end) (?:of )?(?:system|hidden|secret) (?:prompt|instructions?)\b",
    ),
}
RULE = {name: re.compile("|".join(own), re.IGNORECASE | re.DOTALL) for name, own in RULES.items()}
UNSEEN = re.compile("[\U000e0000-\U000e007f\u200b\u2060\u2061-\u2064\ufeff\u00ad]+")  # tags and blanks that nobody sees
MARKUP = re.compile(r"^[\s>*_#\-–•\"'“‘`(\[]+")


@dataclass(frozen=True)
class InstructionSpan:
    """A sentence that speaks to a model, where it stands in its document, and by which rule it was found."""

    document: str
    line: int
    rule: str
    text: str


def without_instructions(name: str, text: str, line: int = 1) -> tuple[str, list[InstructionSpan]]:
    """The text without the sentences that speak to a model, and these."""
    kept: list[str] = []
    spans: list[InstructionSpan] = []
    at = counted = 0
    for start, end in sentences(text):
        rule = rule_of(text[start:end])
        if rule:
            line += text.count("\n", counted, start)
            counted = start
            kept.append(text[at:start])
            at = end
            while at < len(text) and text[at] in " \t":
                at += 1
            spans.append(InstructionSpan(name, line, rule, " ".join(text[start:end].split())[:300]))
    return "".join([*kept, text[at:]]), spans


def rule_of(sentence: str) -> str:
    """The rule by which this sentence speaks to a model; empty where it does not."""
    plain = MARKUP.sub("", UNSEEN.sub("", sentence).replace("’", "'"))
    whole = " ".join(plain.split())
    for start in range(0, max(1, len(whole)), LONGEST - OVERLAP):
        piece = whole[start : start + LONGEST]
        for name, pattern in RULE.items():
            if pattern.search(piece):
                return name
    return ""


def without_unseen(text: str) -> tuple[str, int]:
    """The text without characters that nobody sees and a tokenizer reads, and how many there were."""
    plain = UNSEEN.sub("", text)
    return plain, len(text) - len(plain)
