"""The domain `documents`: what `knowledge` does with passages, for a folder of documents."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from seal_ray.config import AnsweringSection, DocumentsDomain
from seal_ray.domains.documents.questions import place
from seal_ray.domains.documents.survey import Survey, SurveyedPassage, survey
from seal_ray.domains.knowledge import Knowledge
from seal_ray.domains.passages import Passage
from seal_ray.errors import ConfigError
from seal_ray.records import Recipe, Task


def build(
    section: DocumentsDomain,
    *,
    recipe: Recipe,
    answering: AnsweringSection,
    chat: bool,
    seed: int,
    read: Callable[[str], bytes],
) -> "Documents":
    """The domain as it is configured. `read` fetches a path or URI, and lists what a folder holds."""
    return Documents(section, recipe, answering, chat, seed, read)


@dataclass
class DocumentPassage(Passage):
    """A passage, and the document that it stands in: no document is in two splits."""

    document: str = ""
    headings: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        return self.document


class Documents(Knowledge):
    name = "documents"
    _section: DocumentsDomain

    @cached_property
    def _surveyed(self) -> tuple[list[SurveyedPassage], Survey]:
        files: Any = getattr(self._read, "files", None)
        if files is None:
            raise ConfigError(
                "domain.data: documents can't be listed here", hint="open the domain through `configured`"
            )
        return survey(files(self._section.data), self._read, self._section)

    @property
    def survey(self) -> Survey:
        """What the documents hold, and what was passed over or taken out."""
        return self._surveyed[1]

    def _passages(self) -> Sequence[Passage]:
        passages, seen = self._surveyed
        self._odd.extend(seen.warnings(self._section.instructions == "strip"))
        questions: list[dict[str, list[str]]] = [{} for _ in passages]
        if self._section.questions:
            questions = place(self._section.questions, self._read, passages, self._odd.append)
        return [
            DocumentPassage(p.passage.title, p.passage.text, asked, document=p.document, headings=p.passage.headings)
            for p, asked in zip(passages, questions, strict=True)
        ]

    def _task(self, passage: Passage) -> Task:
        made = super()._task(passage)
        if isinstance(passage, DocumentPassage):
            about = {"document": passage.document, "headings": list(passage.headings)}
            return replace(made, data={**made.data, **about})
        return made
