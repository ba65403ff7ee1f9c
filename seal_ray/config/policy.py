"""How a policy learns from the edits that were chosen."""

from typing import Literal

from pydantic import Field

from seal_ray.config.section import LONGEST, Section, Share, Word

KeepMethod = Literal[
    "none", "fresh", "last_layers", "replay", "distill", "ewc", "null_space", "slao", "separate"
]  # fmt: skip
UPDATE_METHODS = ("none", "fresh", "last_layers", "replay")  # of those, what a policy update can do


class PolicySection(Section):
    """How the policy learns from the chosen edits."""

    mode: Literal["lora", "full"] = Field(default="lora", description="train the version's adapter on, or all weights")
    rank: int = Field(default=64, ge=1, le=512, description="of the policy's adapter")
    alpha: float = Field(default=128, gt=0, description="scale of the policy's adapter (alpha / rank)")
    targets: tuple[Word, ...] = Field(
        default=("all-linear",), min_length=1, description="layers of the policy's adapter"
    )
    fresh: bool = Field(default=False, description="merge and begin a new adapter each round, as the paper does")
    epochs: int = Field(default=2, ge=1, le=100, description="over the chosen edits")
    lr: float = Field(default=3e-4, gt=0, le=1, description="peak learning rate")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="cosine", description="how the learning rate goes on after the warm-up"
    )
    warmup: Share = Field(default=0, description="share of the steps that warm up")
    global_batch: int = Field(
        default=10, ge=1, description="examples in an optimiser step, whatever the number of workers"
    )
    micro_batch_tokens: int = Field(
        default=4096, ge=64, description="tokens that one device takes at once (examples are packed)"
    )
    clip: float = Field(default=1.0, ge=0, description="gradient norm, at most")
    weight_decay: float = Field(default=0, ge=0, description="of AdamW")
    max_length: int = Field(default=4096, ge=16, description="a longer example is left out, and said so")
    engine: Literal["auto", "deepspeed"] = Field(
        default="auto",
        description="auto: one worker trains an adapter by itself, more workers or full weights take DeepSpeed",
    )
    zero_stage: Literal[1, 2, 3] = Field(default=2, description="DeepSpeed ZeRO stage")
    offload: Literal["none", "cpu"] = Field(default="none", description="where ZeRO keeps the optimiser")
    checkpointing: bool = Field(default=True, description="recompute activations to save memory")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(default="auto", description="of the forward and backward")
    validation: Share = Field(default=0, description="share of the chosen edits kept back to measure a validation loss")
    beta: float = Field(
        default=0.1, ge=0, description="with pairs: strength of the preference; with grpo: weight of the KL"
    )
    ratio_clip: float = Field(default=0.2, gt=0, lt=1, description="with grpo: clip of the probability ratio")
    worker_timeout: float = Field(
        default=600, gt=0, le=LONGEST, description="seconds to wait for the update's workers to start"
    )
    hang_timeout: float = Field(
        default=600, gt=0, le=LONGEST, description="seconds without a step before the update counts as hung"
    )
    collective_timeout: float = Field(default=600, gt=0, le=LONGEST, description="seconds that one collective may take")
    retries: int = Field(default=2, ge=0, le=20, description="starts over after a loss of workers")
    checkpoint_steps: int = Field(
        default=20, ge=0, description="with mode: full, steps between checkpoints that a restart goes on from; 0: none"
    )
