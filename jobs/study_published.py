"""What a stream keeps of real passages: a small model learns them one after another, from edits that were published.

    python jobs/study_published.py --data published_edits_dev.json                  every method; hours on 2 CPU cores
    python jobs/study_published.py --data … --methods none,null_space               goes on where it was stopped

The data are described in README.md beside this file. Each sequence learns its own passages, a passage a study, from
its published edit. All are asked closed book before and after, and each right after its own study. `held out`:
passages of other titles, before and after. The streams are those of `seal-ray stream`, in one process beside the
loop's own.
"""

import argparse
import json
from pathlib import Path

from study_tiny import METHODS, table

BASE = Path(__file__).parents[1] / "seal_ray/demo/quickstart.yaml"  # its model, and what fits that
SETTINGS = (
    "sampling.top_p=1",  # nothing is sampled; the crew wants it so
    "domain.validation=0",
    "domain.test=0",
    "grading.reward=likelihood",
    "policy.global_batch=1",
    "policy.epochs=4",
    "policy.lr=1.0e-3",
)
APART = 4  # titles of which nothing is learned


def divided(path: Path, edits: str, lines: int, count: int, asked: int, to: Path) -> list[str]:
    """Settings of a run on the shortest passages that have such edits, and apart from them some of other titles."""
    passages = sorted(json.loads(path.read_text()), key=lambda passage: len(passage["context"]))
    titles = sorted({passage["title"] for passage in passages})[:-APART]
    learned = [p for p in passages if p["title"] in titles and edits in p["edits"]][:count]
    if len(learned) < count:
        raise SystemExit(f"{path}: {len(learned)} passages have edits {edits}, and {count} are to be learned")
    to.mkdir(parents=True, exist_ok=True)
    for passage in learned if lines else ():
        passage["edits"][edits] = "\n".join(passage["edits"][edits].splitlines()[:lines])
    apart = [p for p in passages if p["title"] not in titles][:asked]
    for name, rows in (("learned", learned), ("apart", apart)):
        (to / f"{name}.json").write_text(json.dumps(rows, indent=1))
    data = to / "learned.json"
    return [f"domain.data={data}", f"study.texts=file:{data}#{edits}", f"study.skills={to / 'apart.json'}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="streams of published passages, by every method against forgetting")
    parser.add_argument("--data", type=Path, required=True, help="published_edits_dev.json, or a file of its form")
    parser.add_argument("--edits", default="iter2", help="whose edits are learned")
    parser.add_argument("--lines", type=int, default=0, help="of an edit, at most; 0: all")
    parser.add_argument("--asked", type=int, default=12, help="passages of other titles, before and after")
    parser.add_argument("--to", type=Path, default=Path("runs/study-published"), help="folder of runs and table")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--sequences", type=int, default=6)
    parser.add_argument("--methods", default=",".join(METHODS), help="method, or method:key=value of study.keep")
    parser.add_argument("--threads", type=int, default=1, help="of this process, on a CPU")
    parser.add_argument("--set", dest="changes", action="append", default=[], help="override a key; again for more")
    given = parser.parse_args()
    changes = [
        *divided(given.data, given.edits, given.lines, given.steps * given.sequences, given.asked, given.to),
        *SETTINGS,
        f"study.steps={given.steps}",
        f"study.sequences={given.sequences}",
        f"study.measure_every={given.steps}",
        *given.changes,
    ]
    table(BASE, given.to, given.methods.split(","), changes, ("accuracy", "likelihood"), given.threads)


if __name__ == "__main__":
    main()
