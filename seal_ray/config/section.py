"""What every section of a configuration is: plain, finite, frozen, and without credentials."""

import math
import re
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from seal_ray.redaction import credential_in
from seal_ray.text import lone_surrogate

LARGEST = 1e18  # of any number; larger ones overflow what computes with them
LONGEST = 1e8  # seconds of any wait: three years
DEEPEST = 20  # levels of a plug-in's options
Share = Annotated[float, Field(ge=0, le=1)]
# of a section in a section: made by the outer one's validator (validate_default), so that none is built for itself
LEFT_OUT: Any = Field(default_factory=dict)


class Section(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="after")
    def _plain(self) -> Self:
        """What is set must be plain data that a record can hold, and hold no credential.

        One look at the whole section: a validator for each of some 300 fields would be built at every start.
        """
        unfit = [(name, value, problem) for name, value in self if (problem := _unfit(value))]
        if unfit:
            raise ValidationError.from_exception_data(type(self).__name__, [_located(*one) for one in unfit])
        return self


def _located(name: str, value: Any, problem: str) -> InitErrorDetails:
    kind = PydanticCustomError("unfit", "{problem}", {"problem": problem})
    return InitErrorDetails(type=kind, loc=(name,), input=value)


def _unfit(value: Any, depth: int = 0) -> str:
    """Why a value can't stand in a configuration; nothing where it can."""
    if value is None or isinstance(value, (bool, Section)):
        return ""
    if isinstance(value, str):
        return _unfit_text(value)
    if isinstance(value, (int, float)):
        if isinstance(value, float) and not math.isfinite(value):
            return "not a finite number"
        return "" if abs(value) < LARGEST else "no setting is that large"
    if depth > DEEPEST:
        return "nested too deeply"
    if isinstance(value, (list, tuple)):
        return next((p for v in value if (p := _unfit(v, depth + 1))), "")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            return "its keys must be words"
        return next((p for pair in value.items() for v in pair if (p := _unfit(v, depth + 1))), "")
    return f"a {type(value).__name__} is no plain value"


def _unfit_text(text: str) -> str:
    if lone_surrogate(text) or any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in text):
        return "it holds a character that is no text"
    if credential := credential_in(text):
        return (
            f"it holds {credential}, and a configuration is recorded with the run; give credentials in the "
            "environment (those of the store, HF_TOKEN, the variable named by grading.judge_key_env, the tracker's own)"
        )
    return ""


def _http_url(address: str) -> str:
    if not address:
        return address
    try:
        parts = urlsplit(address)
        sound = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or any(c.isspace() for c in address):
        raise ValueError("not a URL; write it as https://HOST or http://HOST:PORT")
    return address


def _variable(name: str) -> str:
    if name and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("not the name of an environment variable (the key itself does not belong here)")
    return name


HttpUrl = Annotated[str, AfterValidator(_http_url)]
Word = Annotated[str, Field(min_length=1)]
