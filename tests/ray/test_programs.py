"""Programs of a model as tasks of a real cluster: judged there, also where workers hold every CPU."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from seal_ray.errors import NoIsolation
from seal_ray.fleet.programs import run_on_cluster
from seal_ray.sandbox import Program, ProgramLimits, choose


@pytest.fixture(scope="module")
def busy_cluster() -> Iterator[None]:
    """One CPU, which an actor holds."""
    try:
        choose()
    except NoIsolation as none:
        pytest.skip(str(none))
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)

    class Holder:
        def held(self) -> bool:
            return True

    remote: Any = ray.remote
    holder = remote(num_cpus=1)(Holder).remote()
    assert ray.get(holder.held.remote(), timeout=120)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("busy_cluster")
def test_programs_are_judged_while_an_actor_holds_every_cpu_and_what_is_lost_is_no_score() -> None:
    cases = ({"code": "assert f(2) == 4"}, {"code": "assert f(3) == 6"})
    programs = [
        Program("def f(x):\n    return 2 * x\n", cases),
        Program("def f(x):\n    while x > 2: pass\n    return 4\n", cases),
        Program("import os\nos.kill(os.getppid(), 9)\nos._exit(0)\n", cases),
    ]
    found = run_on_cluster(programs, ProgramLimits(cpu=1.0, seconds=60), "auto")
    assert [r.failure for r in found] == [None] * 3
    assert [[c.kind for c in r.cases] for r in found] == [["passed"] * 2, ["passed", "timeout"], ["died"] * 2]
    if not shutil.which("bwrap"):
        (lost,) = run_on_cluster(programs[:1], ProgramLimits(), "bubblewrap")
        assert lost.failure and lost.failure.blame == "infra" and "bwrap is not installed" in lost.failure.message
