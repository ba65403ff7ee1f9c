"""How a trained candidate is asked."""

from typing import Literal

from pydantic import Field

from seal_ray.config.section import Section
from seal_ray.records import Json, identity

# the settings of answering when the first candidates were named (see records.identity)
ANSWERING_NAMED = frozenset({"how", "max_tokens", "samples", "temperature", "engine_from"})


class AnsweringSection(Section):
    how: Literal["auto", "bank", "engine"] = Field(
        default="auto",
        description="who answers: the bank that trained, vLLM with the exported adapters, or by the answers' length",
    )
    max_tokens: int = Field(default=64, ge=1, le=65536, description="tokens of an answer, at most")
    samples: int = Field(
        default=1, ge=1, le=64, description="answers to each question; it counts as the share that is right"
    )
    temperature: float = Field(default=0, ge=0, le=5, description="0 is greedy")
    top_p: float = Field(default=1, gt=0, le=1, description="answers are drawn from the likeliest tokens of this share")
    engine_from: int = Field(default=512, ge=1, description="with how: auto, vLLM answers from this many tokens up")
    engine_memory: float = Field(
        default=0.4, gt=0, lt=1, description="share of a GPU's memory for the vLLM engine that answers beside the bank"
    )

    def identity(self) -> dict[str, Json]:
        """What of it makes candidates differ: neither memory nor a setting that came later and is at its default."""
        skip = {"engine_memory"}
        values, defaults = (x.model_dump(mode="json", exclude=skip) for x in (self, type(self)()))
        return identity(values, ANSWERING_NAMED, defaults)
