"""An edit that says how it is to be learned: directives and a text, as one JSON object under limits."""

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from seal_ray.config import DirectivesSection
from seal_ray.domains.pairs import QuestionAnswer, read_pairs
from seal_ray.records import Failure, Json, Objective

KINDS = {
    "statements": "the lines of the text",
    "questions": "the questions in it with their answers",
    "passage": "the passage itself",
}
INSTRUCTION = """Write it as one JSON object that also says how a model is to learn it:
objective: {objectives} (learn the texts; the answers to questions; or what you yourself would say with the
passage before you, at these answers or at the model's own);
learning_rate: {rates};
epochs: {epochs};
statements, questions, passage: true or false, what is learned: {kinds};
count: how many statements and questions, 1 to {most};
text: what you write, with line breaks; questions in the form `Question 1: …` and `Answer: …`."""


class TextDirectives(BaseModel):
    """What a self-edit decides about learning its text."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="ignore", allow_inf_nan=False)

    objective: Objective
    learning_rate: float = Field(gt=0)
    epochs: int = Field(ge=1, le=1_000_000)
    statements: bool
    questions: bool
    passage: bool
    count: int = Field(ge=1, le=1_000_000)
    text: Annotated[str, StringConstraints(strip_whitespace=True)]

    def pieces(self, cut: Callable[[str], Sequence[str]]) -> list[str | QuestionAnswer]:
        """What of the text is learned. `cut` makes texts of what is not a question."""
        asked, rest = read_pairs(self.text)
        statements: Sequence[str] = cut("\n".join(rest)) if self.statements else []
        return [*statements, *(asked if self.questions else [])][: self.count]


def directives_schema(section: DirectivesSection, most: int) -> dict[str, Json]:
    """JSON schema of what the configuration offers, for constrained decoding. The text comes last: it may break off."""
    rate: dict[str, Json] = {"type": "number", "exclusiveMinimum": 0, "maximum": section.max_lr}
    epochs: dict[str, Json] = {"type": "integer", "minimum": 1, "maximum": section.max_epochs}
    properties: dict[str, Json] = {
        "objective": {"type": "string", "enum": list(section.objectives)},
        "learning_rate": {"enum": list(section.learning_rates)} if section.learning_rates else rate,
        "epochs": {"enum": list(section.epoch_choices)} if section.epoch_choices else epochs,
        **{kind: {"type": "boolean"} for kind in KINDS},
        "count": {"type": "integer", "minimum": 1, "maximum": most},
        "text": {"type": "string"},
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(TextDirectives.model_fields),
        "additionalProperties": False,
    }


def instruction(section: DirectivesSection, most: int) -> str:
    """What the policy is told of the directives."""

    def offered(values: Sequence[float], else_: str) -> str:
        return " or ".join(f"{value:g}" for value in values) if values else else_

    return INSTRUCTION.format(
        objectives=" or ".join(section.objectives),
        rates=offered(section.learning_rates, f"over 0, at most {section.max_lr:g}"),
        epochs=offered(section.epoch_choices, f"1 to {section.max_epochs}"),
        kinds=", ".join(KINDS.values()),
        most=most,
    )


def read_directives_and_text(text: str, section: DirectivesSection, most: int) -> TextDirectives | Failure:
    """The edit in a sample, or why there is none. A text that breaks off is cut there, as one outside of JSON is."""
    values = _object(text)
    if isinstance(values, str):
        return Failure("unparsable", f"the edit is no object with directives and a text: {values}")
    try:
        directives = TextDirectives.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg'][0].lower()}{first['msg'][1:]}"
        return Failure("unparsable", f"the edit is no object with directives and a text: {why}")
    return over_limits(directives, section, most) or directives


def over_limits(directives: TextDirectives, section: DirectivesSection, most: int) -> Failure | None:
    """Why the directives ask for more than the configuration allows, or for nothing; None where they don't."""
    rate, epochs = directives.learning_rate, directives.epochs
    if epochs > section.max_epochs or (section.epoch_choices and epochs not in section.epoch_choices):
        allowed = section.epoch_choices or f"at most {section.max_epochs}"
        return Failure("over_budget", f"epochs: {epochs}; domain.directives allows {allowed}")
    if rate > section.max_lr or (section.learning_rates and rate not in section.learning_rates):
        allowed = section.learning_rates or f"at most {section.max_lr:g}"
        return Failure("over_budget", f"learning_rate: {rate:g}; domain.directives allows {allowed}")
    if directives.objective not in section.objectives:
        return Failure("over_budget", f"objective: {directives.objective} is none of domain.directives.objectives")
    if directives.count > most:
        return Failure("over_budget", f"count: {directives.count} is over domain.max_texts: {most}")
    if not (directives.statements or directives.questions or directives.passage):
        return Failure("no_text", "the directives choose neither statements nor questions nor the passage")
    return None


def _object(text: str) -> dict[str, Any] | str:
    """The first JSON object in the text as plain values, or what stands against reading it."""
    start = text.find("{")
    if start < 0:
        return "there is none in it"
    decoder = json.JSONDecoder(strict=False)  # line breaks in a string are taken as they are
    body = text[start:].rstrip()
    for ending in ("", '"}', "}"):
        try:
            values, _ = decoder.raw_decode((body.rstrip("\\") if ending else body) + ending)
        except (ValueError, RecursionError) as error:
            why = str(error)
            continue
        if not ending or list(values)[-1:] == ["text"]:
            return values
        why = "it breaks off before its text"
    return f"it can't be read ({why[:80]})"
