"""What a new version must show before it is current."""

from typing import Any, Literal

from pydantic import Field, field_validator

from seal_ray.config.section import Section, Share


class GateSection(Section):
    mode: Literal["off", "auto", "hold"] = Field(
        default="off", description="off: accept all; auto: by the rule; hold: a person decides"
    )
    tasks: int = Field(default=20, ge=1, description="validation tasks")
    edits: int = Field(default=2, ge=1, description="edits per validation task")
    repeats: int = Field(default=1, ge=1, description="training seeds for each of these edits")
    confidence: float = Field(default=0.9, gt=0.5, lt=1, description="of the paired bootstrap")
    min_gain: float = Field(
        default=0,
        description="the gain must not be under this, nor its lower bound under minus tolerance: in shares of "
        "questions with grading.reward: accuracy or a blend with the contrast, else in nats per token of the right "
        "answers",
    )
    tolerance: float = Field(
        default=0.05, ge=0, description="loss that the lower bound may show and the version still be accepted"
    )
    regression: str = Field(
        default="", description="questions that must not get worse, as the domain's data; empty: those the base answers"
    )
    max_regression: Share = Field(default=0.05, description="share of those questions that may be lost")
    max_kl: float = Field(
        default=1.0, ge=0, description="nats per token by which the new version may drift from the base on a probe"
    )
    fail_on_reject: bool = Field(default=False, description="exit 4 when the gate rejects")

    @field_validator("mode", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        """YAML reads a bare off as false."""
        return "off" if value is False else value
