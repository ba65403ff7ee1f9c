"""How a candidate is trained."""

from typing import Literal

from pydantic import Field

from seal_ray.config.section import Section, Share, Word
from seal_ray.records import MomentKind, Objective, Recipe


class InnerSection(Section):
    """How a candidate's adapter is trained."""

    objective: Objective = Field(
        default="text",
        description="what is learned: an edit's texts; answers to its questions; or, with distill, what the model "
        "itself expects with the passage before its eyes, at written answers (or texts) or at its own "
        "(distill_on_policy)",
    )
    distill_temperature: float = Field(default=2.0, gt=0, le=100, description="with distill, of teacher and student")
    answer_tokens: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="with distill_on_policy, tokens of an answer written in training, at most",
    )
    dropout: float = Field(default=0, ge=0, lt=1, description="share of an adapter's inputs left out in training")
    last_layers: int = Field(default=0, ge=0, description="adapters on so many of the last blocks only; 0 is all")
    rank: int = Field(default=32, ge=1, le=512, description="of a candidate's adapter")
    alpha: float = Field(default=64, gt=0, description="scale of a candidate's adapter (alpha / rank)")
    targets: tuple[Word, ...] = Field(
        default=("all-linear",),
        min_length=1,
        description="linear layers that get an adapter, by name; all-linear is all but the head",
    )
    epochs: int = Field(default=10, ge=1, le=1000, description="over an edit's texts")
    batch_size: int = Field(default=1, ge=1, description="texts in a micro-batch")
    accumulation: int = Field(default=1, ge=1, description="micro-batches in an optimiser step")
    lr: float = Field(default=1e-3, gt=0, le=1, description="peak learning rate")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="how the learning rate goes on after the warm-up"
    )
    warmup: int = Field(default=0, ge=0, description="optimiser steps of warm-up")
    clip: float = Field(default=1.0, ge=0, description="gradient norm of each adapter, at most; 0 is no limit")
    weight_decay: float = Field(default=0, ge=0, description="of AdamW")
    moments: MomentKind = Field(
        default="float32",
        description="of AdamW; an adapter is trained in 16 bytes a parameter with float32, 12 with bfloat16, 10 with "
        "int8, so that more candidates fit on a GPU together; results differ a little",
    )
    max_length: int = Field(default=2048, ge=8, description="a longer text fails its candidate")
    repeats: int = Field(default=3, ge=1, le=100, description="training seeds for each edit")
    extra_repeats: int = Field(
        default=0, ge=0, le=100, description="more repeats per task, on average, spent where the choice is still open"
    )
    heat: Share = Field(
        default=0,
        description="share of an edit's epochs in a heat: a short training after which only the best edits of a task "
        "are trained in full; 0: all are",
    )
    heat_keep: Share = Field(
        default=0.5,
        description="with heat: share of a task's edits that are trained in full, at most (2 always are, and those "
        "whose trial in the heat failed)",
    )
    prune: Share = Field(
        default=0,
        description="share of a task's edits that are dropped before they are trained on, by a model of gain that is "
        "fitted on earlier rounds (2 edits always stay); 0: none",
    )
    prune_spare: Share = Field(
        default=0.2, description="with prune: share of these that are tried all the same, so as not to go blind"
    )
    context_arm: bool = Field(default=True, description="also try each task's context alone, to compare with")
    wave: int = Field(
        default=0, ge=0, description="candidates trained together on one device, at most; 0: from free memory"
    )
    wave_tokens: int = Field(default=2048, ge=64, description="tokens in one packed forward, at most")

    def recipe(self) -> Recipe:
        names = Recipe.__dataclass_fields__
        return Recipe(**{k: v for k, v in self.model_dump().items() if k in names})
