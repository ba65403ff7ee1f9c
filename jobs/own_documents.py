"""A small folder of invented documents, to try `seal-ray adapt` on: nobody has read them, so no model knows them.

    python jobs/own_documents.py runs/mine --seed 2           runs/mine/docs and runs/mine/asked.json
    seal-ray adapt runs/mine/docs --to runs/mine/adapter --set domain.questions=runs/mine/asked.json
    python jobs/served_answers.py runs/mine/adapter           what is served, beside the base, over HTTP

Each document is about one person, village or ship. It states five facts, each in two ways, and each fact has one
question. No answer is right for two questions of a folder: whoever guesses by kind is wrong.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PASSAGES = 12


@dataclass(frozen=True)
class Fact:
    """What is said of one thing. {x} is its name, {v} the answer."""

    values: str  # which pool the answer is drawn from
    said: tuple[str, ...]
    asked: str


KINDS = {
    "person": (
        Fact("town", ("{x} was born in {v}.", "{v} is the birthplace of {x}."), "In which town was {x} born?"),
        Fact("trade", ("{x} works as a {v}.", "By trade {x} is a {v}."), "What is the trade of {x}?"),
        Fact("sound", ("{x} plays the {v}.", "The instrument of {x} is the {v}."), "Which instrument does {x} play?"),
        Fact("beast", ("{x} has a tame {v}.", "The pet of {x} is a {v}."), "Which pet does {x} have?"),
        Fact("person", ("{x} was taught by {v}.", "{v} was the teacher of {x}."), "Who taught {x}?"),
    ),
    "village": (
        Fact("town", ("{x} lies on the river {v}.", "The river {v} runs through {x}."), "Which river is {x} on?"),
        Fact("stuff", ("{x} has houses of {v}.", "{x} is built of {v}."), "What are the houses in {x} made of?"),
        Fact("person", ("{x} was founded by {v}.", "{v} was the founder of {x}."), "Who founded {x}?"),
        Fact("food", ("{x} is known for its {v}.", "People travel to {x} for the {v}."), "What is {x} known for?"),
        Fact("plant", ("The flag of {x} has a {v}.", "The emblem of {x} is a {v}."), "What is on the flag of {x}?"),
    ),
    "ship": (
        Fact("person", ("{v} is the captain of {x}.", "{x} sails under captain {v}."), "Who is captain of {x}?"),
        Fact("town", ("The home port of {x} is {v}.", "{x} always returns to {v}."), "What is the home port of {x}?"),
        Fact("cargo", ("{x} carries {v}.", "The cargo of {x} is {v}."), "What does {x} carry?"),
        Fact("tint", ("The sails of {x} are {v}.", "{x} has {v} sails."), "Which colour are the sails of {x}?"),
        Fact("beast", ("The figurehead of {x} is a {v}.", "{x} bears a wooden {v}."), "What is the figurehead of {x}?"),
    ),
}
POOLS = {
    "trade": "baker cobbler weaver glazier potter tailor brewer carpenter",
    "sound": "flute cello harp trumpet banjo accordion oboe drum",
    "beast": "otter falcon badger lynx heron goat raven hedgehog tortoise swan wolf dolphin beaver owl",
    "stuff": "granite clay cedar brick slate bamboo marble limestone",
    "food": "honey cheese walnuts plums cider mushrooms pepper bread",
    "plant": "thistle lily fern tulip clover rose daisy willow",
    "cargo": "timber salt wool coal copper barley paper glass",
    "tint": "crimson yellow violet green orange white black blue",
    "ship": "Lantern Compass Feather Hammer Kettle Mirror Ribbon Thimble",
}
FIRST = "Anna Peter Clara Simon Laura Martin Helen Oscar Julia Victor Emma Felix Nora Hugo Alice Paul Ruth Leo Ida Max"
STARTS = "Mar Sel Tor Bel Dun Hal Win Rav Cor Lind Ash Fen Gar Nor Pel Sam Wil Had Ros Tan"
TOWN, FAMILY = "mouth ford bridge ham wick field dale stead", "son man ley ton well er"
MOST = 18  # documents: each pool holds enough for so many


def names(luck: random.Random) -> dict[str, Iterator[str]]:
    """Of each pool whatever was not drawn yet."""

    def shuffled(values: str | list[str]) -> Iterator[str]:
        every = values.split() if isinstance(values, str) else values
        return iter(luck.sample(every, len(every)))

    def made(ends: str) -> Iterator[str]:
        return shuffled([start + end for start in STARTS.split() for end in luck.sample(ends.split(), 2)])

    drawn = {name: shuffled(words) for name, words in POOLS.items()}
    first, last, ship = shuffled(f"{FIRST} {FIRST}"), made(FAMILY), drawn["ship"]
    return drawn | {
        "town": made(TOWN),
        "person": (f"{a} {b}" for a, b in zip(first, last, strict=True)),
        "ship": (f"the {name}" for name in ship),
    }


def document(kind: str, drawn: dict[str, Iterator[str]], luck: random.Random) -> tuple[str, str, list[dict[str, str]]]:
    """Its title, its text (each fact, then all once more in another order and other words) and its questions."""
    name = next(drawn["town" if kind == "village" else kind])
    firsts, seconds, questions = list[str](), list[str](), []
    for fact in KINDS[kind]:
        value = next(drawn[fact.values])
        one, other = luck.sample(fact.said, 2)
        firsts.append(sentence(one, name, value))
        seconds.append(sentence(other, name, value))
        questions.append({"question": fact.asked.format(x=name), "answer": value})
    luck.shuffle(seconds)
    return name[0].upper() + name[1:], f"{' '.join(firsts)}\n\n{' '.join(seconds)}", questions


def sentence(form: str, name: str, value: str) -> str:
    text = re.sub(r"\ba(?= [aeiou])", "an", form.format(x=name, v=value))
    return text[0].upper() + text[1:]


def write(folder: Path, passages: int, seed: int) -> tuple[Path, Path]:
    """One Markdown file for each thing, and the questions that go with them."""
    luck = random.Random(seed)
    drawn = names(luck)
    docs, asked = folder / "docs", folder / "asked.json"
    docs.mkdir(parents=True, exist_ok=True)
    questions = []
    for number in range(passages):
        title, text, own = document(list(KINDS)[number % len(KINDS)], drawn, luck)
        file = docs / (re.sub(r"\W+", "-", title.lower()) + ".md")
        file.write_text(f"# {title}\n\n{text}\n", encoding="utf-8")
        questions += [q | {"document": file.name} for q in own]
    asked.write_text(json.dumps(questions, indent=1) + "\n", encoding="utf-8")
    return docs, asked


def main() -> None:
    parser = argparse.ArgumentParser(description="write a folder of invented documents, with questions about them")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--passages", type=int, default=PASSAGES, help=f"documents, at most {MOST}")
    parser.add_argument("--seed", type=int, default=1, help="other seeds, other documents")
    given = parser.parse_args()
    if not 0 < given.passages <= MOST:
        parser.error(f"--passages: {given.passages} is not from 1 to {MOST}")
    docs, asked = write(given.folder, given.passages, given.seed)
    print(f"{len(list(docs.iterdir()))} documents in {docs}, {len(json.loads(asked.read_text()))} questions in {asked}")


if __name__ == "__main__":
    main()
