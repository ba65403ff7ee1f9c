"""What the tests of the few-shot domain share: grids, tasks, and where the public tasks lie."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from seal_ray.config import AnsweringSection, ArcDomain
from seal_ray.domains.arc import Arc, build
from seal_ray.domains.arc.grids import Grid
from seal_ray.records import Recipe

ARC = Path(__file__).parents[3] / "shared" / "data" / "arc"


def arc_file(name: str) -> Path:
    if not (ARC / name).exists():
        pytest.skip(f"../shared/data/arc/{name} is not there")
    return ARC / name


def grids(side: int = 6) -> st.SearchStrategy[Grid]:
    shapes = st.tuples(st.integers(1, side), st.integers(1, side))
    return arrays.arrays(np.int8, shapes, elements=st.integers(0, 9))


def domain(files: dict[str, bytes], *, recipe: Recipe | None = None, chat: bool = False, **section: Any) -> Arc:
    """The domain over files that are given as bytes."""
    section = {"data": "challenges.json", "validation": 0, "test": 0, **section}
    built = build(
        ArcDomain(**section),
        recipe=recipe or Recipe(epochs=2, batch_size=2, max_length=8192),
        answering=AnsweringSection(max_tokens=3000),
        chat=chat,
        seed=7,
        read=files.__getitem__,
    )
    assert isinstance(built, Arc)
    return built
