"""How texts are learned for good, and what is done against forgetting."""

from typing import Literal

from pydantic import Field, model_validator

from seal_ray.config.policy import UPDATE_METHODS, KeepMethod
from seal_ray.config.section import LEFT_OUT, Section, Share, Word


class KeepSection(Section):
    """How a version that studies keeps what it learned before. What each method assumes is said where it is."""

    method: KeepMethod = Field(
        default="none",
        description="none, fresh, last_layers, replay, distill, ewc, null_space, slao or separate",
    )
    layers: int = Field(default=10, ge=1, description="with last_layers: how many of the last layers are trained")
    share: Share = Field(
        default=0.1,
        description="with replay and distill: lessons of earlier steps in a step, as a share of its own",
    )
    strength: float = Field(default=10, ge=0, description="with ewc: weight of what holds the model back")
    energy: float = Field(
        default=0.95, gt=0, le=1, description="with null_space: share of a layer's inputs that no later step may touch"
    )
    most_rank: int = Field(
        default=256, ge=2, le=512, description="with fresh and null_space: rank of all steps' adapters together"
    )
    router: Literal["texts", "likelihood"] = Field(
        default="texts",
        description="with separate: an adapter is chosen by the words that its texts share with the question, or by "
        "how likely it finds the question; in exams, and by `seal-ray ask`",
    )


class StudySection(Section):
    """Texts become a version: many at once (study), or one after another (stream)."""

    split: Literal["train", "validation", "test"] = Field(default="train", description="whose tasks are learned")
    arms: tuple[Word, ...] = Field(
        default=("context", "untrained"),
        min_length=1,
        description="study: where texts come from, side by side: context (the passages alone), untrained, "
        "version:RUN#N, file:PATH#KEY, teacher:URL#MODEL; 'ARM with KEY=VALUE' writes with settings of its own "
        "(study.edits, domain, and how sampling draws)",
    )
    texts: Word = Field(default="context", description="stream: where texts come from, as in arms")
    edits: int = Field(default=1, ge=1, description="edits of a task whose texts are learned")
    tasks: int = Field(default=50, ge=1, description="study: tasks that are learned at once")
    sequences: int = Field(default=1, ge=1, le=1024, description="stream: independent sequences, each of its own tasks")
    steps: int = Field(default=8, ge=1, le=1000, description="stream: studies in a sequence")
    tasks_per_step: int = Field(default=1, ge=1, description="stream: tasks that are learned together in one study")
    measure_every: int = Field(default=1, ge=1, description="stream: steps between two looks at all tasks")
    skills: str = Field(
        default="", description="questions that must not get worse, as the domain's data; empty: the validation tasks"
    )
    open_book: bool = Field(
        default=False, description="also ask with the passage in the prompt: is a fact gone, or only not said?"
    )
    where: Literal["auto", "bank", "update"] = Field(
        default="auto",
        description="bank: where adapters stand, many at once; update: Ray Train and DeepSpeed; auto: what policy.mode "
        "allows, the bank first",
    )
    keep: KeepSection = LEFT_OUT

    @model_validator(mode="after")
    def _allowed(self) -> "StudySection":
        method = self.keep.method
        if self.where == "update" and method not in UPDATE_METHODS:
            raise ValueError(
                f"keep.method: {method} works in a bank only, and where is update; "
                f"use where: bank, or one of {', '.join(UPDATE_METHODS)}"
            )
        if self.where == "update" and self.sequences > 1:
            raise ValueError(f"sequences: {self.sequences} advance together in a bank only; use where: bank, or 1")
        return self
