"""The inner loop: many candidates' adapters trained and questioned together on one device.

Importing this package loads neither torch nor transformers; using a name of it does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seal_ray.inner.answer import Answerer, BankAnswerer, Sample, Sampling
    from seal_ray.inner.bank import Bank
    from seal_ray.inner.loop import fit

__all__ = ["Answerer", "Bank", "BankAnswerer", "Sample", "Sampling", "fit"]

_HOME = {
    "Answerer": "answer",
    "Bank": "bank",
    "BankAnswerer": "answer",
    "Sample": "answer",
    "Sampling": "answer",
    "fit": "loop",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"seal_ray.inner has no {name}")
    return getattr(import_module(f"seal_ray.inner.{_HOME[name]}"), name)
