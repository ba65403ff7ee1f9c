"""SEAL, self-adapting language models, as a distributed pipeline on Ray."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from seal_ray.loops.rounds import Run, open, run

__all__ = ["Run", "__version__", "open", "run"]


def __getattr__(name: str) -> Any:
    """`run`, `open` and `Run` are loaded at first use, so that importing the package costs nothing."""
    if name in {"Run", "open", "run"}:
        from seal_ray.loops import rounds

        return getattr(rounds, name)
    raise AttributeError(f"module 'seal_ray' has no attribute {name!r}")
