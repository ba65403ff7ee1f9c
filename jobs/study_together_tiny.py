"""How much is learned of many passages at once, in the tiny world: arms, by the number of passages and of edits.

    python jobs/knowledge_tiny_model.py                                        once
    python jobs/study_together_tiny.py curve --version RUN#N                   by the number of passages and of edits
    python jobs/study_together_tiny.py arms --version RUN#N --passages 40      one study of so many, arms side by side
    python jobs/study_together_tiny.py arms --passages 40 --edits 4 --many 16 --given     and two arms more

Passages are the invented people; `--version` names a version of the world's policy, as `learning_curves.py` makes them.
A point of the curve is the first step of a stream: as many studies of so many people as there are people for, up to
eight, all in one bank. The arms are those of `seal-ray study`. Both are runs that go on where they were stopped.
`--many`: many samples of the untrained version in place of a few; of one prompt, for this model has met no other.
`--given`: notes that a program took, of the two kinds that help, in the place of a teacher's.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from one_process_crew import OneProcessCrew
from study_tiny import TINY, skills, texts

from seal_ray import config_file
from seal_ray.loops import stream, study
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.policy.bootstrap import paired

ROOT = Path(__file__).parent
PASSAGES = (1, 2, 4, 8, 16, 40)
EDITS = (1, 4)
LEARNED = 48  # people whom a study may be about: those of whom no round of the policy was
MOST = 8  # studies of the same size

Scores = dict[str, float]  # by person


def settings(to: Path, more: Sequence[str]) -> list[str]:
    own = [
        "domain.test=0.3",
        "study.split=test",
        "policy.epochs=8",
        "sampling.chunk=64",
        "observe.progress=quiet",
        "observe.ray_metrics=false",
    ]
    return [*TINY, f"study.skills={skills(to)}", *own, *more]


def point(crew: Any, given: argparse.Namespace, arm: str, edits: int, passages: int) -> tuple[Scores, Scores, float]:
    """Right answers by person, before and after, and what is left of what the model knew by heart."""
    name = f"{arm.partition(':')[0]}-{edits}x{passages}"
    changes = [
        f"run.uri={given.to / name}",
        f"study.texts={arm}",
        f"study.edits={edits}",
        "study.steps=1",
        f"study.tasks_per_step={passages}",
        f"study.sequences={min(MOST, LEARNED // passages)}",
        *settings(given.to, given.changes),
    ]
    config = config_file.load(given.config, changes)
    with Session(config, hire=crew.hire) as session:
        stream.run_stream(session)
    run = Run(config.run.uri)
    before, after = ((run.ledger.round(number).get(stream.ROW) or {})["rows"] for number in (1, 2))
    known = (run.ledger.round(1).get(stream.PLAN) or {})["skills"]

    def right(rows: Any, wanted: bool) -> Scores:
        scores = [(t, s["accuracy"]) for row in rows for t, s in row["scores"].items() if (t in known) == wanted]
        return {t: v for t, v in scores if v is not None}

    kept = [s["accuracy"] for row in after for t, s in row["scores"].items() if t in known]
    return right(before, False), right(after, False), sum(kept) / len(kept)


def curve(crew: Any, given: argparse.Namespace, arms: Sequence[str]) -> list[str]:
    lines = [f"| arm | edits a person | {' | '.join(f'{n} at once' for n in given.passages)} |"]
    lines += ["|" + " --- |" * (2 + len(given.passages))]
    print("\n".join(lines), flush=True)
    for arm in arms:
        for edits in given.edits if arm != "context" else (1,):
            cells = []
            for passages in given.passages:
                before, after, kept = point(crew, given, arm, edits, passages)
                mean, gain = sum(after.values()) / len(after), paired(before, after, seed=1)
                cells.append(f"{mean:.2f} ({gain.low:+.2f} to {gain.high:+.2f}), {kept:.2f}")
            lines.append(f"| {arm.partition(':')[0]} | {edits} | {' | '.join(cells)} |")
            print(lines[-1], flush=True)
    return lines


def side_by_side(crew: Any, given: argparse.Namespace, arms: Sequence[str]) -> list[str]:
    passages, edits = max(given.passages), max(given.edits)
    words = ", ".join(f'"{arm}"' for arm in arms)
    changes = [
        f"run.uri={given.to / f'arms-{edits}x{passages}'}",
        f"study.arms=[{words}]",
        f"study.edits={edits}",
        f"study.tasks={passages}",
        'gate.mode="off"',
        *settings(given.to, given.changes),
    ]
    config = config_file.load(given.config, changes)
    with Session(config, hire=crew.hire) as session:
        study.run_study(session)
    found: Any = study.summary(Run(config.run.uri))
    lines = ["| arm | texts | steps | right | over none | held out | seconds |", "|" + " --- |" * 7]
    for arm, own in found["arms"].items():
        row, held = (found["tables"][f"{asked} accuracy"][arm] for asked in ("tasks", "skills"))
        over = row.get("difference")
        between = f"{over['mean']:+.3f} ({over['low']:+.3f} to {over['high']:+.3f})" if over else ""
        cost = [own["texts"] or "", own["steps"] or "", f"{own['seconds']:.0f}" if own["seconds"] else ""]
        cells = [*cost[:2], f"{row['mean']['mean']:.3f}", between, f"{held['mean']['mean']:.2f}", cost[2]]
        lines.append(f"| {arm if ' with ' in arm else arm.partition(':')[0]} | " + " | ".join(map(str, cells)) + " |")
    print("\n".join(lines))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="many passages studied at once, arm by arm")
    parser.add_argument("what", choices=["curve", "arms"])
    parser.add_argument("--config", type=Path, default=ROOT / "knowledge-tiny.yaml")
    parser.add_argument("--to", type=Path, default=Path("runs/study-together"), help="folder of the runs and tables")
    parser.add_argument("--version", default="", help="RUN#N: also the edits of this version, which is trained on from")
    parser.add_argument("--passages", nargs="+", type=int, default=list(PASSAGES))
    parser.add_argument("--edits", nargs="+", type=int, default=list(EDITS), help="of a person")
    parser.add_argument("--many", type=int, default=0, help="arms: also so many samples of a person; 0: no such arm")
    parser.add_argument("--given", action="store_true", help="arms: also notes from a file")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="override a key; again for more")
    given = parser.parse_args()
    given.to.mkdir(parents=True, exist_ok=True)
    arms = ["context", "untrained", *([f"version:{given.version}"] if given.version else [])]
    if given.what == "arms":
        arms += [f"untrained with study.edits={given.many}"] * (given.many > 0)
        arms += [f"file:{texts(given.to)}#notes"] * given.given
    began, crew = time.monotonic(), OneProcessCrew()
    lines = (curve if given.what == "curve" else side_by_side)(crew, given, arms)
    (given.to / f"{given.what}.md").write_text("\n".join(lines) + "\n")
    print(f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
