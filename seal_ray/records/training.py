"""What an adapter is trained on, and how."""

import math
from dataclasses import dataclass
from typing import Literal

# what an inner loop learns: texts, answers to questions, or what the model expects with the context before its eyes, at
# answers that were written down or at those that it gives itself
Objective = Literal["text", "answers", "distill", "distill_on_policy"]
# what an optimiser's two moments are kept in
MomentKind = Literal["float32", "bfloat16", "int8"]


@dataclass(frozen=True)
class Example:
    """One training text: token ids, and for each whether it carries loss (as a label).

    With a `teacher`, what is learned is not the text but what the model itself expects where it has read more: the
    teacher reads these tokens in place of all that come before the first label, then the same labels.
    """

    ids: tuple[int, ...]
    mask: tuple[bool, ...]
    teacher: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.mask), "an example has one mask value for each token"

    @property
    def first(self) -> int:
        """The first token that carries loss; a text's own first token is predicted from nothing and never does."""
        return next((i for i, labelled in enumerate(self.mask) if i and labelled), len(self.ids))


@dataclass(frozen=True)
class Recipe:
    """How one adapter is trained. The defaults suit a few dozen short texts; `PAPER_RECIPE` is the published one."""

    rank: int = 32
    alpha: float = 64.0
    targets: tuple[str, ...] = ("all-linear",)  # names of linear layers; "all-linear" leaves the output head out
    epochs: int = 10
    batch_size: int = 1  # texts in one micro-batch
    accumulation: int = 1  # micro-batches in one optimiser step
    lr: float = 1e-3
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: int = 0  # optimiser steps
    clip: float = 1.0  # gradient norm; 0 is no clipping
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    max_length: int = 2048  # a longer text fails the candidate
    pad_to: int = 0  # 0 is no padding; the paper's code pads to 2048 and trains on the padding
    shuffle: bool = True  # a new order each epoch, from the seed; False keeps the order given
    objective: Objective = "text"
    distill_temperature: float = 2.0  # of teacher and student, for examples that have a teacher
    answer_tokens: int = 32  # with distill_on_policy: tokens of an answer that is written while training, at most
    dropout: float = 0.0  # share of an adapter's inputs that is left out in training
    last_layers: int = 0  # adapters on so many of the model's last blocks only; 0 is all
    moments: MomentKind = "float32"

    def steps(self, examples: int) -> int:
        """Optimiser steps for that many examples (a short last batch or accumulation still makes a step)."""
        return self.epochs * math.ceil(math.ceil(examples / self.batch_size) / self.accumulation)


PAPER_RECIPE = Recipe(targets=("q_proj", "v_proj"))
