"""The samplers as a group, with samplers played in virtual time."""

from typing import Any

import pytest
from fleet_simulation import VERSION, Player, Simulation, section

from seal_ray.config import ModelSection, StorageSection
from seal_ray.errors import InfraError
from seal_ray.events import ActorChanged, Event
from seal_ray.fleet import actor_health, samplers
from seal_ray.fleet.actor_health import Sign
from seal_ray.fleet.actors import ActorReply
from seal_ray.fleet.cluster import Node
from seal_ray.fleet.placement import plan_placement
from seal_ray.fleet.samplers import SamplerActor, SamplerGroup
from seal_ray.fleet.wave_messages import Lost
from seal_ray.records import Edit, Version
from seal_ray.sampling.engine import EngineSettings
from seal_ray.sampling.sampler import EditPrompt


class Samplers(Simulation):
    """Played samplers: a chunk takes ten seconds; what it gives depends on the chunk alone."""

    fail: Any = None
    sampled: list[tuple[str, str]]

    def _sample(self, player: Player, ticket: int, chunk: list[EditPrompt]) -> None:
        self.sampled.append((player.name, chunk[0].task))
        error = self.fail(player.name, chunk) if self.fail else None
        if error == "hang":
            return

        def done() -> ActorReply:
            if error:
                player.dead = isinstance(error, Lost) and error.cause != "unreachable"
                return ActorReply(ticket, error=error)
            return ActorReply(ticket, [edit(p) for p in chunk])

        self._later(10.0, done, player, ticket)


def edit(prompt: EditPrompt) -> Edit:
    return Edit(f"{prompt.task}/{prompt.slot}", prompt.task, prompt.slot, "v0", prompt.seed, (1,), (2,), (0.0,), "", "")


def chunk(number: int) -> list[EditPrompt]:
    return [EditPrompt(f"task-{number}", slot, (1, 2), seed=slot) for slot in range(3)]


def group(simulation: Samplers, samplers: int = 2, **changes: Any) -> tuple[SamplerGroup, list[Event]]:
    simulation.sampled = []
    events: list[Event] = []
    nodes = (Node("a", "a", 16, 8, "A10", 64e9, 16, 8),)
    placement = plan_placement(section(samplers=samplers, **changes), nodes)
    made = SamplerGroup(placement, simulation, events.append, simulation.clock)
    made.version(VERSION)
    return made, events


def collect(made: SamplerGroup, simulation: Samplers, until: float = 1000.0) -> dict[str, list[Edit]]:
    found: dict[str, list[Edit]] = {}
    while made.pending():
        assert simulation.now < until
        for chunk_id, edits in made.poll(1.0):
            assert chunk_id not in found
            found[chunk_id] = edits
    return found


EXPECTED = {str(n): [edit(p) for p in chunk(n)] for n in range(6)}


def submit(made: SamplerGroup) -> None:
    for number in range(6):
        made.submit(str(number), chunk(number))


def test_chunks_are_shared_among_samplers() -> None:
    simulation = Samplers()
    made, _ = group(simulation)
    submit(made)
    assert collect(made, simulation) == EXPECTED
    assert {name for name, _ in simulation.sampled} == {"sampler-1", "sampler-2"}
    assert simulation.now < 40


def test_a_chunk_whose_sampler_dies_is_written_by_another() -> None:
    simulation = Samplers()
    made, events = group(simulation)
    simulation.at(15, lambda: simulation.crash("sampler-1"))
    submit(made)
    assert collect(made, simulation) == EXPECTED
    assert "sampler-3" in simulation.players, "it was not replaced"
    assert any(isinstance(e, ActorChanged) and e.worker == "sampler-1" and e.state == "dead" for e in events)


def test_a_sampler_that_hangs_is_killed_and_its_chunk_written_by_another() -> None:
    simulation = Samplers()
    simulation.fail = lambda name, chunk: "hang" if name == "sampler-1" else None
    made, _ = group(simulation, candidate_deadline=20.0)
    submit(made)
    assert collect(made, simulation) == EXPECTED
    assert simulation.players["sampler-1"].dead and simulation.now < 150


def test_a_chunk_that_nobody_can_write_stops_the_run_with_its_reason() -> None:
    simulation = Samplers()
    simulation.fail = lambda name, chunk: Lost("killed_worker", "SIGKILL") if chunk[0].task == "task-2" else None
    made, _ = group(simulation, candidate_retries=2)
    submit(made)
    with pytest.raises(InfraError, match=r"chunk 2 \(3 edits\) was lost 3 times.*SIGKILL"):
        collect(made, simulation)


def test_a_sampler_says_while_it_writes_that_it_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was lost on the way back leaves its sampler writing: it must not be given the chunk again."""
    signs: list[Sign] = []

    class Writing:
        def __init__(self, *_: object) -> None:
            pass

        def sample(self, chunk: list[EditPrompt]) -> list[Edit]:
            signs.append(actor.ping())
            if not chunk:
                raise InfraError("no engine")
            return [edit(p) for p in chunk]

    monkeypatch.setattr(samplers, "Sampler", Writing)
    actor = SamplerActor(ModelSection(), EngineSettings(), StorageSection())
    assert actor.ping().lease is None
    assert actor.sample(chunk(1)) == EXPECTED["1"] and actor.ping().lease is None
    with pytest.raises(InfraError, match="no engine"):
        actor.sample([])
    assert actor.ping().lease is None
    suspect = actor_health.unreachable(actor_health.ready(actor_health.begin(0.0), 1.0), 2.0, "the network")
    assert [actor_health.signed(suspect, 3.0, sign, "").state for sign in signs] == ["suspect"] * 2


def test_a_new_version_reaches_samplers_without_a_new_start() -> None:
    simulation = Samplers()
    made, _ = group(simulation)
    submit(made)
    collect(made, simulation)
    made.version(Version(1, "v1", "base", kind="adapter"), "adapter")
    made.submit("again", chunk(9))
    collect(made, simulation)
    assert len(simulation.players) == 2
    assert any(p.version == "v1" for p in simulation.players.values())
