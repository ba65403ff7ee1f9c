"""The driver's eye on an update: passes its news on, notices when it hangs, tries again what was lost, sees it end."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seal_ray import ray_private
from seal_ray.errors import InfraError
from seal_ray.events import Sink, UpdateStep, UpdateValidated, Warned
from seal_ray.policy.job import StepLog
from seal_ray.policy.update_actor import Limits, News, TrainerCount, TrainerProcess, UpdateOutcome

POLL_SECONDS = 0.2
START_SECONDS = 120  # for processes to come up and import, on top of the time to find room for them
END_SECONDS = 30


class Watch:
    """What an update has told so far. Steps of a later attempt replace those of an earlier one."""

    def __init__(self, desk: Any, sink: Sink, tick: Callable[[], None] = lambda: None) -> None:
        self.desk, self.sink, self._tick = desk, sink, tick
        self.steps: dict[int, StepLog] = {}
        self.validation: dict[int, float] = {}
        self._processes: tuple[TrainerProcess, ...] = ()

    def attempts(
        self, train: Callable[[dict[str, Any]], Any], payload: Any, crew: TrainerCount, limits: Limits, retries: int
    ) -> tuple[Any, int]:
        """What `train` returns on the first worker, and how many attempts it took."""
        for attempt in range(1, retries + 2):
            outcome = self._attempt(train, payload, crew, limits)
            if outcome.error is None:
                return outcome.value, attempt
            if not outcome.again or attempt > retries:
                raise outcome.error
            self.sink(Warned(f"attempt {attempt}: {outcome.error.message}; the update starts again"))
            self._give_back_room()
        raise AssertionError("the last attempt returns or raises")

    def _attempt(
        self, train: Callable[[dict[str, Any]], Any], payload: Any, crew: TrainerCount, limits: Limits
    ) -> UpdateOutcome:
        import ray

        # in a list, the payload travels as a reference
        running = self.desk.fit.remote(train, [payload], crew, limits)
        while True:
            done, _ = ray.wait([running], timeout=POLL_SECONDS)
            quiet, started = self.drain()
            if done:
                return ray.get(running)
            self._tick()
            if quiet > (limits.hang if started else limits.start + START_SECONDS):
                # not tried again: workers that hang in a kernel end with their desk, and only with it
                raise InfraError(
                    f"the policy update gave no sign of life for {quiet:.0f} s",
                    hint="look at the workers' logs; where a step does take that long, raise policy.hang_timeout",
                )

    def drain(self) -> tuple[float, bool]:
        """Pass on what is new. Returns seconds since the last sign of life, and whether there was any."""
        import ray
        from ray.exceptions import RayError

        try:
            news: News = ray.get(self.desk.news.remote(), timeout=60)
        except RayError as error:
            raise InfraError(f"the actor that runs the policy update is gone: {error}") from error
        self._processes = news.processes
        for event in news.events:
            if isinstance(event, UpdateValidated):
                self.validation[event.epoch] = event.loss
            elif isinstance(event, UpdateStep):
                own = {f.name: getattr(event, f.name) for f in dataclasses.fields(StepLog)}
                self.steps[event.step] = StepLog(**own)
            self.sink(event)
        return news.quiet, news.started

    def end(self) -> None:
        """Take everything down, give back what it held, and wait until no worker of this node is left."""
        import ray

        ray.kill(self.desk)
        self._give_back_room()
        here = ray.get_runtime_context().get_node_id()
        until = time.monotonic() + END_SECONDS
        while any(p.node == here and _runs(p.pid) for p in self._processes) and time.monotonic() < until:
            time.sleep(0.05)

    def _give_back_room(self) -> None:
        """What workers were placed in. Ray takes it back when the whole job ends, unless the controller lives to."""
        from ray.util.placement_group import remove_placement_group

        for name in {p.placement_group for p in self._processes} - {""}:
            remove_placement_group(ray_private.placement_group(name))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
