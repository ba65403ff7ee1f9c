"""What the policy is asked to write about a passage: one prompt for each style."""

import random
import re
from collections.abc import Mapping, Sequence

from seal_ray.domains.kinds_of_text import KINDS
from seal_ray.errors import ConfigError
from seal_ray.records import derive_seed

# style -> (what is asked for, how the answer begins when a base model goes on writing)
ASKED = {
    "implications": (
        "Read the passage below. Then write down what follows from it, directly or indirectly: a numbered list of "
        "implications, one on a line, each a full sentence that names what it is about.",
        "Implications:\n",
    ),
    "long": (
        "Read the passage below. Then write a long and thorough list of what follows from it, directly or "
        "indirectly: many numbered implications, one on a line, each a full sentence that names what it is about.",
        "Long list of implications:\n",
    ),
    "very_long": (
        "Read the passage below. Then write the longest list of what follows from it that you can, directly or "
        "indirectly: go through every name, date, number, cause and consequence, and put each implication on a line "
        "of its own, as a full sentence that names what it is about. Do not stop early.",
        "Very long and complete list of implications:\n",
    ),
    "rewrite": (
        "Read the passage below. Then tell it anew several times in different words, keeping every fact. Put each "
        "version on a line of its own.",
        "The passage in other words:\n",
    ),
    "self_qa": (
        "Read the passage below. Then write questions about all that it says, each with its answer, in the form\n"
        "Question 1: …\nAnswer: …\n\nQuestion 2: …\nAnswer: …\n\n"
        "Each question must be understood without the passage.",
        "Question 1: ",
    ),
    "chain_of_thought": (
        "Read the passage below. First think aloud about what matters in it and what somebody might be asked about it. "
        "Then begin a new line with `Implications:` and write a numbered list of what follows from the passage, one on "
        "a line, each a full sentence that names what it is about.",
        "Thoughts:\n",
    ),
    "entities": (
        "Read the passage below. Choose people, places, things or ideas that it names, two or three at a time, and "
        "explain for each pair and each triple how they have to do with one another according to the passage. One "
        "explanation on a line, in full sentences that name them.",
        "How they have to do with one another:\n",
    ),
    "targeted": (
        "Read the passage below. Then teach what nobody could guess who does not know it: its names, numbers, dates "
        "and whatever else is particular. Tell each of these facts several times in different words, one on a line, "
        "as full sentences that name what they are about.",
        "What nobody could guess, in different words:\n",
    ),
    **KINDS,
}
WEAK = (
    "Read the passage below, and the sentences of it that are listed after it: what these say is not known yet. Tell "
    "each fact in them several times, in different words and together with what the passage says around it. One on a "
    "line, as full sentences that name what they are about.",
    "What is not known yet, in different words:\n",
)
AMONG = (
    "Read the passage below. Then explain in detail how {names} have to do with one another according to the passage: "
    "what each of them is, and what connects them. Write full sentences that name them, one on a line.",
    "How {names} have to do with one another:\n",
)


def edit_prompt(
    style: str,
    title: str,
    context: str,
    *,
    chat: bool = False,
    template: str = "",
    among: Sequence[str] = (),
    weak: Sequence[str] = (),
) -> str:
    """The prompt of a style for a passage.

    A base model gets the beginning of the answer as well and goes on from there; with `chat` it is left out.
    `among`: with style entities, the names that are to be related. `template`: the text of style template. `weak`:
    with style targeted, the sentences that are not known; never what they are tested by.
    """
    if style == "none":
        return f"{title}\n{context}\n\n"
    if style == "template":
        return template.replace("{title}", title).replace("{context}", context)
    if style not in ASKED:
        raise ConfigError(f"domain.style: {style!r} has no prompt", hint=f"use one of {', '.join([*ASKED, 'none'])}")
    asked, lead = ASKED[style]
    if style == "entities" and len(among) > 1:
        names = f"{', '.join(among[:-1])} and {among[-1]}"
        asked, lead = (part.replace("{names}", names) for part in AMONG)
    listed = ""
    if style == "targeted" and weak:
        asked, lead = WEAK
        listed = "\n\nNot known yet:\n" + "\n".join(f"- {sentence}" for sentence in weak)
    prompt = f"{asked}\n\nPassage:\n{title}\n{context}{listed}"
    return prompt if chat else f"{prompt}\n\n{lead}"


def pick_style(style: str, mixture: Mapping[str, float], *seed: int | str) -> str:
    """The style of one slot: the configured one, or one drawn by the weights of the mixture."""
    if style != "mixture":
        return style
    names = sorted(mixture)
    return random.Random(derive_seed("style", *seed)).choices(names, [mixture[n] for n in names])[0]


def pick_entities(title: str, context: str, *seed: int | str) -> tuple[str, ...]:
    """Two or three names of a passage for one slot; none where the script does not mark names by capitals."""
    names = entities(title, context)
    if len(names) < 2:
        return ()
    draw = random.Random(derive_seed("entities", *seed))
    return tuple(draw.sample(names, min(len(names), draw.choice((2, 3)))))


def entities(title: str, context: str) -> list[str]:
    """Names in a passage, in order: runs of capitalised words, without those that only begin a sentence."""
    names = {title.strip(): None} if title.strip() else {}
    for sentence in re.split(r"(?<=[.!?])\s+|\n+", context):
        words = [w for part in _RUNS.findall(sentence) if (w := part.rstrip("'’-."))]
        run: list[str] = []
        for position, word in enumerate([*words, ""]):
            named = word[:1].isupper() and not (position == 0 and word.lower() in _OPENERS)
            if named or (run and word.isdigit()):
                run.append(word)
                continue
            name = " ".join(run)
            if len(name) > 2 and name not in names and (len(run) > 1 or not _opens(sentence, name)):
                names.setdefault(name)
            run = []
    return list(names)


_RUNS = re.compile(r"[\w'’\-.]+")
_OPENERS_TEXT = (
    "a an the in on at of for from by with as after before during since until when while if it its this that these "
    "those there he she they his her their we our you some many most all each every no not one two three both other "
    "another such however although though because but and or so then today later also to more"
)
_OPENERS = frozenset(_OPENERS_TEXT.split())


def _opens(sentence: str, name: str) -> bool:
    """Is this single word the sentence's first, and nowhere else in it? Then its capital says nothing."""
    return sentence.startswith(name) and sentence.count(name) == 1
