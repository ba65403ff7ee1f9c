"""What the driver does between two attempts of an update. The desk is played: it says how each attempt ended."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from seal_ray import ray_private
from seal_ray.errors import InfraError
from seal_ray.events import Warned
from seal_ray.policy.update_actor import Limits, News, TrainerCount, TrainerProcess, UpdateOutcome
from seal_ray.policy.update_watch import Watch

LOST = UpdateOutcome(error=InfraError("the controller is gone"), again=True)


class PlayedDesk:
    """Each attempt has two workers in a room of its own, which stays held when the attempt is lost."""

    def __init__(self, *outcomes: UpdateOutcome) -> None:
        self.outcomes = list(outcomes)
        self.processes: list[TrainerProcess] = []
        self.held: set[str] = set()
        self.found: list[set[str]] = []  # what was held when each attempt began
        self.fit = SimpleNamespace(remote=self._fit)
        self.news = SimpleNamespace(remote=lambda: News([], tuple(self.processes), 0.0, True))

    def _fit(self, *_: Any) -> UpdateOutcome:
        self.found.append(set(self.held))
        room = f"room-{len(self.found)}"
        self.held.add(room)
        self.processes += [TrainerProcess(f"trainer-{rank}", "elsewhere", 1, room) for rank in (0, 1)]
        return self.outcomes.pop(0)


def watched(monkeypatch: pytest.MonkeyPatch, desk: PlayedDesk) -> tuple[Watch, list[Any]]:
    told: list[Any] = []
    monkeypatch.setattr(ray, "wait", lambda running, timeout: (running, []))
    monkeypatch.setattr(ray, "get", lambda value, timeout=0: value)
    monkeypatch.setattr(ray_private, "placement_group", lambda name: name)
    rooms = importlib.import_module("ray.util.placement_group")  # whose name in its package is that of a function
    monkeypatch.setattr(rooms, "remove_placement_group", desk.held.discard)
    return Watch(desk, told.append), told


def test_the_room_of_an_attempt_that_was_lost_is_free_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    desk = PlayedDesk(LOST, LOST, UpdateOutcome(value="trained"))
    watch, told = watched(monkeypatch, desk)
    assert watch.attempts(print, None, TrainerCount(2, True, 4, {}), Limits(60, 60, 60), 2) == ("trained", 3)
    assert desk.found == [set()] * 3, "it would wait for what nobody uses any more"
    assert [type(event) for event in told] == [Warned] * 2


def test_without_another_attempt_the_error_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    watch, _ = watched(monkeypatch, PlayedDesk(LOST, LOST))
    with pytest.raises(InfraError, match="controller is gone"):
        watch.attempts(print, None, TrainerCount(2, True, 4, {}), Limits(60, 60, 60), 1)
