"""For all tests."""

import gc
import os
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from seeds import SEED

from seal_ray import cache_folder
from seal_ray.models import cache

# how long an example takes says nothing of what is tested; and what is drawn is the same each time, as attacks are
settings.register_profile("any machine", deadline=None, derandomize=not SEED)
settings.load_profile("any machine")


HANGS = 3600  # seconds
CACHE = pytest.StashKey[str]()  # the folder of models that this pytest has made, to be removed by it


def pytest_configure(config: pytest.Config) -> None:
    """Models and versions that tests fetch go to a folder of this pytest, in every process that it starts.

    The built-in models that whoever tests has already made are used where they are: they are the same, and take long.
    """
    if os.environ.get(cache_folder.ROOT):
        return
    own = cache_folder.default_root()
    config.stash[CACHE] = os.environ[cache_folder.ROOT] = tempfile.mkdtemp(prefix="seal-ray-models-")
    for made in own.glob("models/builtin-*"):
        if made.is_dir() and cache.ModelCache(own).held(made.name):
            cache.ModelCache().folder(made.name).symlink_to(made)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long tests share two cores, so how long one takes says little of it: its limit ends what hangs."""
    for item in items:
        if item.get_closest_marker("slow"):
            item.add_marker(pytest.mark.timeout(HANGS), append=False)


def pytest_unconfigure(config: pytest.Config) -> None:
    if folder := config.stash.get(CACHE, None):
        del os.environ[cache_folder.ROOT]
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def handles_go_before_their_cluster() -> Iterator[None]:
    """Ray ends the process at once where another thread happens to collect an actor's handle while it shuts down.

    A session has such threads, those of the S3 server and its clients; so what can be collected goes first.
    """
    import ray

    own = ray.shutdown

    def shutdown(*args: Any, **kwargs: Any) -> None:
        gc.collect()
        gc.disable()
        try:
            own(*args, **kwargs)
        finally:
            gc.enable()

    ray.shutdown = shutdown
    yield
    ray.shutdown = own
