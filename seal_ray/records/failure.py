"""Why something has no result."""

from dataclasses import dataclass
from typing import Literal

from seal_ray.redaction import redact
from seal_ray.text import storable

Blame = Literal["data", "infra"]  # data: trying again gives the same; infra: it may work elsewhere


@dataclass(frozen=True)
class Failure:
    """Why something has no result. A domain may have kinds of its own."""

    kind: str  # unparsable, no_text, too_long, nan_loss, over_budget, out_of_memory, deadline, killed_worker, judge…
    message: str
    blame: Blame = "data"

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", redact(storable(self.message)))
