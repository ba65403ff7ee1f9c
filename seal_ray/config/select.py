"""Which edits a policy learns from."""

from typing import Literal

from pydantic import Field

from seal_ray.config.section import Section


class SelectSection(Section):
    algorithm: Literal["rest_em", "weighted", "pairs", "grpo"] = Field(
        default="rest_em", description="how rewards become lessons"
    )
    rule: Literal["best", "top_k", "positive", "threshold"] = Field(
        default="best", description="with rest_em: which edits of a task are kept"
    )
    top_k: int = Field(default=1, ge=1, description="with rule: top_k")
    margin: float = Field(default=0, ge=0, description="standard errors by which an edit must beat its baseline")
    threshold: float = Field(default=0, description="with rule: threshold, the lower bound that an edit must pass")
    control: Literal["none", "shuffled"] = Field(
        default="none",
        description="shuffled: an experiment's control, in which the rewards of a task are dealt out anew among its "
        "edits by a seed, so that nothing can be learned from them",
    )
