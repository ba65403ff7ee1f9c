"""One round's time as a picture in text, from a recorded run: what the phases took, and when the workers computed.

    python jobs/round_picture.py RUN [--round N] [--width 72]

The report draws the same for all rounds; this is for pages that hold text.
"""

import argparse
from collections.abc import Iterable, Sequence
from typing import Any

import seal_ray
from seal_ray.observe.timeline import timeline

PHASES = ("sampling", "trials", "update", "gate")  # grading goes on beside trials
Stretch = tuple[float, float]  # from, to: seconds


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--round", type=int, default=1)
    parser.add_argument("--width", type=int, default=72)
    given = parser.parse_args(words)
    print(picture(timeline(seal_ray.open(given.run).events()), given.round, given.width))


def picture(times: dict[str, Any], number: int, width: int) -> str:
    """A line for each phase of the round, and one for each worker with the waves that it trained."""
    spans = [s for s in times["spans"] if s["round"] == number]
    if not spans:
        raise SystemExit(f"the run has no times of round {number}")
    begin, end = min(s["from"] for s in spans), max(s["to"] for s in spans)
    lines = {p: [(s["from"], s["to"]) for s in spans if s["phase"] == p] for p in PHASES}
    for actor in times["actors"]:
        waves = [(b["at"], b["at"] + b["seconds"]) for b in actor["blocks"]]
        lines[actor["name"]] = [w for w in waves if begin <= w[0] < end]
    scale = (end - begin) / width
    drawn = [
        f"{name:9} {bar(stretches, begin, scale, width)} {sum(b - a for a, b in stretches):4.0f} s"
        for name, stretches in lines.items()
        if stretches
    ]
    axis = f"{'':9} 0{'':{width - 2}}{end - begin:.0f} s"
    return "\n".join([*drawn, axis])


def bar(stretches: Iterable[Stretch], begin: float, scale: float, width: int) -> str:
    """A mark for each piece of time in which something went on; a thin one where the next stretch begins."""
    cells = [" "] * width
    for start, end in stretches:
        first, last = int((start - begin) / scale), int((end - begin) / scale)
        for cell in range(first, min(max(last, first + 1), width)):
            cells[cell] = "▏" if cell == first and first and cells[first - 1] != " " else "█"
    return "".join(cells)


if __name__ == "__main__":
    main()
