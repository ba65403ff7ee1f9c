"""For all tests."""

import gc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings

settings.register_profile("any machine", deadline=None)  # how long an example takes says nothing of what is tested
settings.load_profile("any machine")


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
