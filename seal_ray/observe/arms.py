"""What people call the arms of a round's table, in the order of its columns."""

from seal_ray.records import CandidateKind

TITLES = {"base": "base", "context": "context alone", "edit": "mean edit", "kept": "kept edit"}
OF_KIND: dict[CandidateKind, str] = {
    "baseline": "base",
    "context": "context",
    "edit": "edit",
    "heat": "heat",
    "study": "study",
}
