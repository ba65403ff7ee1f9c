"""What a stream keeps, in a tiny world: every method on the same sequences of invented people, one after another.

    python jobs/knowledge_tiny_model.py              once, about 3 minutes
    python jobs/study_tiny.py                        8 studies, 8 sequences, every method; some minutes on 2 CPU cores
    python jobs/study_tiny.py --steps 100 --sequences 1 --methods none,replay

Each study learns notes of one person (questions with answers, and the same as statements). The streams are those of
`seal-ray stream`, in one process beside the loop's own; each is a run that goes on where it was stopped.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from knowledge_tiny_model import known_people
from knowledge_tiny_tasks import FACTS, HELD_OUT, PEOPLE, notes, people
from one_process_crew import OneProcessCrew

from seal_ray import config_file
from seal_ray.loops import stream
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.records import Json, derive_seed

ROOT = Path(__file__).parent
METHODS = (
    "none", "fresh", "last_layers:layers=2", "replay:share=0.5", "ewc:strength=1", "ewc:strength=0.1", "null_space",
    "slao", "separate",
)  # fmt: skip
# a study of eight short texts
TINY = (
    "policy.epochs=16", "policy.lr=3.0e-3", "domain.distractors=0", "grading.reward=likelihood", "domain.test=0",
    "evaluation.every=0",
)  # fmt: skip
FIGURES = ("base", "immediate", "retained", "kept", "backward", "forward")


def texts(folder: Path) -> Path:
    """Notes of every person, for `study.texts: file:…#notes`."""
    path = folder / "notes.json"
    rows = []
    for number, person in enumerate(people(PEOPLE, HELD_OUT)):
        rng = np.random.default_rng(derive_seed(HELD_OUT, "study", number))
        lines = [notes(person, kind, rng, FACTS) for kind in ("question", "statement")]
        rows.append({"context": person.passage, "notes": "\n".join(lines)})
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows, indent=1))
    return path


def skills(folder: Path, count: int = 12) -> Path:
    """Questions about people whom the model knows by heart: what no study may cost."""
    path = folder / "known.json"
    rows = [
        {
            "title": person.name,
            "context": person.passage,
            "questions": [{"question": question, "answer": answer} for question, answer in person.questions()],
        }
        for person in known_people()[:count]
    ]
    path.write_text(json.dumps(rows, indent=1))
    return path


def streamed(crew: OneProcessCrew, base: Path, changes: list[str]) -> dict[str, Json] | None:
    config = config_file.load(base, changes)
    hire: Any = crew.hire
    with Session(config, hire=hire) as session:
        stream.run_stream(session)
    return stream.summary(Run(config.run.uri))


def line(name: str, found: dict[str, Any], measure: str) -> str:
    own = found["measures"][measure]["figures"]
    cells = []
    for figure in FIGURES:
        value = own[figure]
        ends = f" ({value['low']:.2f}, {value['high']:.2f})" if value and value["low"] is not None else ""
        cells.append(f"{value['mean']:.2f}{ends}" if value else "-")
    skills = [v for v in found["skills"][measure] if v is not None]
    cells.append(f"{skills[0]:.2f} → {skills[-1]:.2f}" if skills else "-")
    cost, size = found["cost"]["seconds"], found["cost"]["bytes"]
    cells.append(f"{cost:.1f} s, {size / 1e6:.1f} MB" if size else f"{cost:.1f} s")
    return f"| {name} | " + " | ".join(cells) + " |"


def table(
    base: Path, to: Path, methods: Sequence[str], changes: list[str], measures: Sequence[str], threads: int = 1
) -> None:
    """A stream by each method (`method`, or `method:key=value` of study.keep), and a row of each measure as it ends."""
    crew = OneProcessCrew(threads)
    to.mkdir(parents=True, exist_ok=True)
    rows = [f"| method | {' | '.join(FIGURES)} | held out | a study costs |", "|" + " --- |" * (len(FIGURES) + 3)]
    print("\n".join(rows), flush=True)
    for method in methods:
        name, *options = method.split(":")
        own = [
            f"run.uri={to / method.replace(':', '-')}",
            f"study.keep.method={name}",
            *(f"study.keep.{option}" for option in options),
            "observe.progress=quiet",
            "observe.ray_metrics=false",
        ]
        found = streamed(crew, base, [*own, *changes])
        assert found
        for measure in measures:
            rows.append(line(method if len(measures) == 1 else f"{method}: {measure}", found, measure))
            print(rows[-1], flush=True)
        (to / "table.md").write_text("\n".join(rows) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="streams of every method against forgetting, side by side")
    parser.add_argument("--config", type=Path, default=ROOT / "knowledge-tiny.yaml")
    parser.add_argument("--to", type=Path, default=Path("runs/study-tiny"), help="folder of the runs and the table")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--methods", default=",".join(METHODS), help="method, or method:key=value of study.keep")
    parser.add_argument("--texts", default="", help="study.texts; empty: notes of the invented people")
    parser.add_argument("--measure", default="accuracy", choices=("accuracy", "likelihood"))
    parser.add_argument("--every", type=int, default=1, help="steps between two looks at all tasks")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="override a key; again for more")
    given = parser.parse_args()
    source = given.texts or f"file:{texts(given.to)}#notes"
    known = [] if given.texts else [f"study.skills={skills(given.to)}", *TINY]
    changes = [
        f"study.texts={source}",
        f"study.steps={given.steps}",
        f"study.sequences={given.sequences}",
        f"study.measure_every={given.every}",
        *known,
        *given.changes,
    ]
    to = given.to / f"{given.steps}x{given.sequences}"
    table(given.config, to, given.methods.split(","), changes, (given.measure,))


if __name__ == "__main__":
    main()
