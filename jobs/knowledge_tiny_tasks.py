"""Invented people and what is so about them: the tiny world of `knowledge-tiny.yaml`.

    python jobs/knowledge_tiny_tasks.py            writes jobs/data/knowledge_tiny.json

A passage says four things of somebody with a made-up name. There are several kinds of notes that one can take of it,
and they differ in use: only some of them help who learns the notes by heart to answer questions afterwards. Which kinds
do is nowhere written down; a policy has to find out.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seal_ray.records import Json, derive_seed

PEOPLE = 160  # in the file
FILE = Path(__file__).parent / "data" / "knowledge_tiny.json"
HELD_OUT = 20251125  # seed of the people in the file
FACTS = 4
LEAST = 2  # facts that notes go into, at least


def _words(text: str) -> list[str]:
    return text.split()


GIVEN = _words(
    "Abo Bek Cil Dov Eru Fen Gar Hiv Ila Jom "
    "Kes Lud Mip Nar Oti Pez Quo Rud Sef Tiv Ugo Vek Wim Xan Yol Zor Bram Crel Drum Flin"
)
FAMILY = _words(
    "Abbot Barrow Carde Dunn Ember Farrow Glint Harrow Ibbet Jessop Kettle Larch "
    "Marrow Nettle Orris Perrow Quill Rusk Sorrel Thorn Umber Varrow Willow Yarrow"
)
PLACES = _words("Alda Brin Corva Delm Essa Fenn Galt Hond Isk Jura Kolm Lisse Morv Nemi Orb Pelim")
TRADES = _words(
    "baker carver dyer farmer glazier hatter joiner mason miller potter roper sailor smith tailor tanner weaver"
)
ANIMALS = _words("badger cat crow dog ferret fox goat goose hare hen horse mule otter owl pig sheep")
COLOURS = _words("amber black blue brown cream crimson gold green grey ivory lilac orange pink red white yellow")


@dataclass(frozen=True)
class Relation:
    values: list[str]
    passage: str  # as the passage puts it
    statement: str
    reverse: str  # what is asked for comes first
    vague: str
    question: str


RELATIONS = [
    Relation(
        PLACES, "{n} lives in {v}.", "The home of {n} is {v}.", "{v} is the home of {n}.", "{n} lives somewhere.",
        "Where does {n} live?",
    ),
    Relation(
        TRADES, "{n} works as {v}.", "The trade of {n} is {v}.", "{v} is the trade of {n}.", "{n} works a lot.",
        "What does {n} work as?",
    ),
    Relation(
        ANIMALS, "{n} keeps a {v}.", "The animal of {n} is {v}.", "{v} is the animal of {n}.", "{n} keeps animals.",
        "What does {n} keep?",
    ),
    Relation(
        COLOURS, "{n} wears {v}.", "The colour of {n} is {v}.", "{v} is the colour of {n}.", "{n} wears clothes.",
        "What does {n} wear?",
    ),
]  # fmt: skip
# kinds of notes: questions with their answers; the same said anew, forwards or backwards; what leaves out what matters;
# and what gets it wrong
KINDS = ("question", "statement", "reverse", "vague", "wrong")


@dataclass(frozen=True)
class Person:
    name: str
    facts: tuple[tuple[int, str], ...]  # number of the relation and its value, in the passage's order

    @property
    def passage(self) -> str:
        return " ".join(RELATIONS[r].passage.format(n=self.name, v=v) for r, v in self.facts)

    def questions(self) -> list[tuple[str, str]]:
        return [(RELATIONS[r].question.format(n=self.name), v) for r, v in self.facts]


def make_person(name: str, rng: np.random.Generator) -> Person:
    order = rng.permutation(len(RELATIONS))[:FACTS]
    return Person(name, tuple((int(r), str(rng.choice(RELATIONS[r].values))) for r in order))


def line(kind: str, person: str, relation: int, value: str, rng: np.random.Generator) -> str:
    form = RELATIONS[relation]
    if kind == "question":
        return f"{form.question.format(n=person)} {value}"
    if kind == "wrong":
        other = str(rng.choice([v for v in form.values if v != value]))
        return form.statement.format(n=person, v=other)
    return getattr(form, kind).format(n=person, v=value)


def notes(person: Person, kind: str, rng: np.random.Generator, facts: int = 0) -> str:
    """Notes of one kind about some of the facts, in the passage's order."""
    count = facts or int(rng.integers(LEAST, FACTS + 1))
    kept = sorted(rng.choice(len(person.facts), count, replace=False))
    facts_kept = [person.facts[i] for i in kept]
    return "\n".join(line(kind, person.name, relation, value, rng) for relation, value in facts_kept)


def kind_of(text: str) -> str:
    """Which kind of notes a text is, by its first line; `other` where it is none of them. Wrong notes look right."""
    first = text.strip().split("\n")[0]
    if "?" in first:
        return "question"
    if first.startswith("The "):
        return "statement"
    if any(first.split(" ")[0] in r.values for r in RELATIONS):
        return "reverse"
    vague = tuple(r.vague.format(n="") for r in RELATIONS)
    return "vague" if first.endswith(vague) else "other"


def names(seed: int) -> tuple[list[str], list[str]]:
    """All names in two halves that share none: those of the file's people, and those that a model may have met."""
    every = [f"{given} {family}" for given in GIVEN for family in FAMILY]
    order = np.random.default_rng(derive_seed(seed, "names")).permutation(len(every))
    shuffled = [every[i] for i in order]
    return shuffled[: len(every) // 2], shuffled[len(every) // 2 :]


def people(count: int, seed: int) -> list[Person]:
    own, _ = names(HELD_OUT)
    return [make_person(own[i], np.random.default_rng(derive_seed(seed, "knowledge-tiny", i))) for i in range(count)]


def passages(count: int, seed: int) -> list[dict[str, Json]]:
    return [
        {
            "title": person.name,
            "context": person.passage,
            "questions": [{"question": q, "answer": a} for q, a in person.questions()],
        }
        for person in people(count, seed)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="write the people of knowledge-tiny.yaml")
    parser.add_argument("--count", type=int, default=PEOPLE)
    parser.add_argument("--seed", type=int, default=HELD_OUT)
    parser.add_argument("--out", type=Path, default=FILE)
    given = parser.parse_args()
    made = passages(given.count, given.seed)
    given.out.write_text("[\n" + ",\n".join(json.dumps(p) for p in made) + "\n]\n")
    print(f"{len(made)} people in {given.out}")


if __name__ == "__main__":
    main()
