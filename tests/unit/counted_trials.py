"""How a round's trials are counted by what shows progress, for the tests of those that tell it."""

from collections.abc import Iterable

from seal_ray.config import Config
from seal_ray.events import Event, PhaseEnded
from seal_ray.observe.tally import Tally


def counted(events: Iterable[Event], config: Config) -> list[tuple[int, int]]:
    """What was done and what there was to do, where each round's own trials ended. Never is more done than there is."""
    tally = Tally(edits=config.sampling.edits, repeats=config.inner.repeats, context_arm=config.inner.context_arm)
    ended: list[tuple[int, int]] = []
    for event in events:
        trials = tally.counts["trials"]
        if isinstance(event, PhaseEnded) and event.phase == "trials" and not tally.aside:
            ended.append((trials.done, trials.total))
        tally.take(event)
        trials = tally.counts["trials"]
        assert trials.done <= trials.total, f"{trials.done}/{trials.total} after {event}"
    return ended
