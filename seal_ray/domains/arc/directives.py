"""Directives: the self-edit of this domain. Which augmentations, which loss, how fast and how long to learn."""

import json
import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from seal_ray.config import ArcDomain
from seal_ray.domains.arc.augment import FAMILIES, Family
from seal_ray.records import Failure, Json

MAX_TEXT = 20_000  # characters of a sample that are looked at; a set of directives has about 130
MAX_OBJECT = 2_000

# Directives are one flat object, so a brace always begins a new one: one pass, whatever is nested in the text.
_OBJECT = re.compile(r"\{[^{}]*+\}?+")
_PAIR = re.compile(
    r"""["']?+([A-Za-z_]{1,40}+)["']?+\s*+[:=]\s*+("[^"\n]*+"|'[^'\n]*+'|[^\s,{}"']++(?=[\s,}]))""",
)


class Directives(BaseModel):
    """What a self-edit decides about the training on its task."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    basic: bool = Field(description="turned, flipped, mirrored and shifted copies")
    size: bool = Field(description="enlarged copies")
    chain: bool = Field(description="turned or flipped and then enlarged copies")
    repeat: bool = Field(description="copies tiled in each direction")
    loss: Literal["all", "output"] = Field(description="which tokens are learned")
    learning_rate: float = Field(gt=0, description="peak learning rate")
    epochs: int = Field(ge=1, le=1_000_000, description="passes over the training examples")

    def families(self) -> tuple[Family, ...]:
        return tuple(name for name in FAMILIES if getattr(self, name))


def output_schema(section: ArcDomain) -> dict[str, Json]:
    """JSON schema of the directives that the configuration offers, for constrained decoding."""
    switch: dict[str, Json] = {"type": "boolean"}
    rate: dict[str, Json] = {"type": "number", "exclusiveMinimum": 0, "maximum": section.max_lr}
    epochs: dict[str, Json] = {"type": "integer", "minimum": 1, "maximum": section.max_epochs}
    properties: dict[str, Json] = {
        **dict.fromkeys(FAMILIES, switch),
        "loss": {"type": "string", "enum": ["all", "output"]},
        "learning_rate": {"enum": list(section.learning_rates)} if section.learning_rates else rate,
        "epochs": {"enum": list(section.epoch_choices)} if section.epoch_choices else epochs,
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(Directives.model_fields),
        "additionalProperties": False,
    }


def read_directives(text: str, section: ArcDomain) -> Directives | Failure:
    """The directives in a sample, or why there are none to be had.

    Code fences, prose around the object, wrong quotes, missing quotes, trailing commas and a missing last brace are
    repaired, since only one reading is left. Two different sets of directives, or a value that breaks off, are not.
    """
    readings: dict[str, Directives] = {}
    why = "there is no JSON object in it"
    for match in _OBJECT.finditer(text[:MAX_TEXT]):
        if len(match.group()) > MAX_OBJECT:
            why = "its JSON object is too long"
            continue
        values = _values(match.group())
        if isinstance(values, str):
            why = values
            continue
        try:
            directives = Directives.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            why = f"{'.'.join(map(str, first['loc']))}: {first['msg'][0].lower()}{first['msg'][1:]}"
            continue
        readings[directives.model_dump_json()] = directives
    if len(readings) > 1:
        return Failure("unparsable", f"the edit holds {len(readings)} different sets of directives; one is wanted")
    if not readings:
        return Failure("unparsable", f"the edit is no set of directives: {why}")
    directives = next(iter(readings.values()))
    return over_limits(directives, section) or directives


def over_limits(directives: Directives, section: ArcDomain) -> Failure | None:
    """Why the directives ask for more than the configuration allows; None where they don't."""
    rate, epochs = directives.learning_rate, directives.epochs
    if epochs > section.max_epochs:
        return Failure("over_budget", f"epochs: {epochs} is over domain.max_epochs: {section.max_epochs}")
    if rate > section.max_lr:
        return Failure("over_budget", f"learning_rate: {rate:g} is over domain.max_lr: {section.max_lr:g}")
    if section.epoch_choices and epochs not in section.epoch_choices:
        return Failure("over_budget", f"epochs: {epochs} is none of domain.epoch_choices: {section.epoch_choices}")
    if section.learning_rates and rate not in section.learning_rates:
        return Failure("over_budget", f"learning_rate: {rate:g} is none of domain.learning_rates")
    return None


def _values(text: str) -> dict[str, Any] | str:
    """The keys and values of one flat object as it was written, or what stands against reading it."""
    pairs: list[tuple[str, Any]]
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        pairs = [(key, value.strip("\"'")) for key, value in _PAIR.findall(text)]
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in Directives.model_fields and key in values and values[key] != value:
            return f"it says {key} twice, with different values"
        values[key] = value
    return values
