"""Which version a round begins with: one that somebody named, the latest, the best, or one that the archive gives.

What was decided, by whom and why, is a part of the round before it begins. (It was once called rollback.json.)
"""

from collections import Counter

from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.policy import archive, versions
from seal_ray.policy.archive import Archived
from seal_ray.records import Json, Version, decode, encode
from seal_ray.storage.ledger import Ledger, RoundLedger

PARENT, FORMERLY = "parent.json", "rollback.json"
BY_SETTING = "run.parent: "  # how it begins who has said it where no person has


def said(part: RoundLedger) -> Json | None:
    """Who has said which version this round begins with; None where it is simply the latest."""
    return part.get(PARENT) or part.get(FORMERLY)


def went_back(part: RoundLedger) -> Json | None:
    """Which version a person made current before this round; None where nobody did, whatever `run.parent` named."""
    known = said(part)
    return known if known and not str(known.get("by")).startswith(BY_SETTING) else None


def current_before(ledger: Ledger, number: int, base: str) -> Version:
    """What is current until round `number` accepts a version; it may have begun with another one."""
    source = went_back(ledger.round(number)) or (ledger.manifest(number - 1) if number > 1 else None)
    return decode(Version, source["version"]) if source else versions.first(base)


def parent_of(ledger: Ledger, number: int, base: str, config: Config) -> Version:
    """The version that round `number` begins with."""
    part, run = ledger.round(number), config.run
    known = said(part)
    if known is None and run.parent != "latest" and number > 1:
        known = _chosen(archive_of(ledger, base), run.parent, run.seed + number)
        part.put(PARENT, known)
    return decode(Version, known["version"]) if known else current_before(ledger, number, base)


def refuse_other_base(version: Version, base: str, config: Config) -> None:
    """A hub's branch may move on while a run is stopped, and a folder be written anew."""
    if version.base != base:
        raise ConfigError(
            f"model.name: the files of {config.model.name} are {base[:12]} now, "
            f"and version {version.number} of the run stands on {version.base[:12]}",
            hint="give the run the files that it began with: set model.revision to that commit, or put them back",
        )


def _chosen(known: list[Archived], how: str, seed: int) -> Json:
    if how == "best":
        one = archive.best(known)
        why = "no version has a validation score, so it is the newest" if one.score is None else f"{one.score:.3f}"
    else:
        one, chances = archive.drawn(known, seed)
        why = f"drawn with a chance of {chances[one.version.digest]:.0%} of {len(known)} versions"
        why += "" if one.accepted else ", though it was rejected"
    return {"by": f"{BY_SETTING}{how}", "why": why, "version": encode(one.version)}


def archive_of(ledger: Ledger, base: str) -> list[Archived]:
    """Every version of the committed rounds, accepted or not, and the base."""
    made: dict[str, Version] = {}
    scores: dict[str, float] = {}
    accepted: set[str] = set()
    for number in range(1, ledger.latest() + 1):
        part = ledger.round(number)
        began = decode(Version, (part.get("tasks.json") or {})["version"])
        made.setdefault(began.digest, began)
        if began.kind == "base":
            accepted.add(began.digest)
        update, gate = part.get("update.json") or {}, part.get("gate.json") or {}
        if not update.get("version"):
            continue
        new = decode(Version, update["version"])
        made[new.digest] = new
        if (ledger.manifest(number) or {}).get("decision") == "accept":
            accepted.add(new.digest)
        figures = gate.get("figures") or {}
        for version, name in ((began, "old"), (new, "new")):
            if figures.get(name) is not None:
                scores.setdefault(version.digest, float(figures[name]))
    first = versions.first(base)
    made.setdefault(first.digest, first)
    accepted.add(first.digest)
    children = Counter(version.parent for version in made.values())
    return [Archived(v, scores.get(d), children[d], d in accepted) for d, v in made.items()]
