"""From files to passages, and what was seen on the way: files passed over, copies, spans that speak to a model."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from seal_ray.config import DocumentsDomain
from seal_ray.domains.documents.copies import Copies
from seal_ray.domains.documents.cutting import CutPassage, cut, tokens
from seal_ray.domains.documents.instructions import InstructionSpan, without_instructions, without_unseen
from seal_ray.domains.documents.sections import Document, DocumentSection, read_sections, title_of_file
from seal_ray.domains.documents.unreadable import Unreadable
from seal_ray.errors import DataError, InfraError, Missing
from seal_ray.records import Json, encode
from seal_ray.storage.input_folders import InputFile
from seal_ray.text import lone_surrogate

FEW = 3  # of a kind that a warning names
SHORT = 60  # tokens: a text as short may say the same words of something else


@dataclass(frozen=True)
class PassedOver:
    """A file that nothing is learned from, and why."""

    document: str
    kind: str
    reason: str


@dataclass(frozen=True)
class CopiedPassage:
    """A passage that is left out, because it is there already."""

    document: str
    title: str
    other: str
    similarity: float


@dataclass(frozen=True)
class UnreadPages:
    """Pages of a PDF that hold no text."""

    document: str
    pages: int


@dataclass
class Survey:
    """What a source holds."""

    documents: int = 0
    passages: int = 0
    unseen: int = 0  # characters that nobody sees
    passed_over: list[PassedOver] = field(default_factory=list)
    unread_pages: list[UnreadPages] = field(default_factory=list)
    copies: list[CopiedPassage] = field(default_factory=list)
    instructions: list[InstructionSpan] = field(default_factory=list)

    def as_data(self) -> dict[str, Json]:
        return encode(self)

    def warnings(self, stripped: bool) -> list[str]:
        """A line for each kind of thing that a person should know."""
        lines = []
        for kind, count in Counter(p.kind for p in self.passed_over).most_common():
            of_kind = [p for p in self.passed_over if p.kind == kind]
            named = _named(f"{p.document}: {p.reason}" for p in of_kind)
            lines.append(f"{_count(count, 'file is', 'files are')} passed over: {named}")
        if self.unread_pages:
            lines.append(
                f"{_count(sum(u.pages for u in self.unread_pages), 'page holds', 'pages hold')} no text; if they are "
                "pictures of it, recognise it first (OCR): "
                + _named(f"{u.document}, {_count(u.pages, 'page', 'pages')}" for u in self.unread_pages)
            )
        if self.copies:
            exact = sum(c.similarity == 1 for c in self.copies)
            lines.append(
                f"{_count(len(self.copies), 'passage is', 'passages are')} left out as copies ({exact} exact): "
                + _named(f"{c.document} ({c.title}) is {c.other}" for c in self.copies)
            )
        if self.instructions:
            done = "taken out" if stripped else "kept, as domain.instructions: keep says"
            lines.append(
                f"{_count(len(self.instructions), 'span speaks', 'spans speak')} to a model and "
                f"{'is' if len(self.instructions) == 1 else 'are'} {done}: "
                + _named(f"{s.document}, line {s.line} ({s.rule}): {s.text[:80]!r}" for s in self.instructions)
            )
        if self.unseen:
            lines.append(f"{self.unseen} characters that nobody sees are taken out")
        return lines


@dataclass(frozen=True)
class SurveyedPassage:
    document: str
    passage: CutPassage


def survey(
    files: Iterable[InputFile], read: Callable[[str], bytes], section: DocumentsDomain
) -> tuple[list[SurveyedPassage], Survey]:
    """The passages of all documents, one file in memory at a time."""
    seen, passages = Survey(), list[SurveyedPassage]()
    copies = Copies(section.near_copies)
    for document in _documents(files, read, section, seen):
        seen.documents += 1
        for passage in cut(document, section.passage_tokens):
            name = f"{document.name} ({passage.title})"
            about = passage.title if tokens(passage.text) < SHORT else ""
            copy = copies.add(name, passage.text, about)
            if copy:
                seen.copies.append(CopiedPassage(document.name, passage.title, copy.other, copy.similarity))
                continue
            passages.append(SurveyedPassage(document.name, passage))
            if len(passages) > section.max_passages:
                raise DataError(
                    f"domain.data: {section.data} has more than {section.max_passages} passages",
                    hint="give fewer documents, or raise domain.max_passages",
                )
    seen.passages = len(passages)
    if not passages:
        raise DataError(f"domain.data: {section.data} holds no text to learn{_why(seen)}", hint=_what_is_read())
    return passages, seen


def _documents(
    files: Iterable[InputFile], read: Callable[[str], bytes], section: DocumentsDomain, seen: Survey
) -> Iterator[Document]:
    for number, file in enumerate(files, 1):
        if number > section.max_files:
            raise DataError(
                f"domain.data: {section.data} has more than {section.max_files} files",
                hint="give a smaller folder or a pattern, or raise domain.max_files",
            )
        try:
            document = _read(file, read, section)
            if document.unread_pages:
                seen.unread_pages.append(UnreadPages(file.name, document.unread_pages))
            yield _clean(document, section, seen)
        except Unreadable as why:
            seen.passed_over.append(PassedOver(file.name, why.kind, why.message))


def _read(file: InputFile, read: Callable[[str], bytes], section: DocumentsDomain) -> Document:
    limit = section.max_file_mb * 1e6
    if file.size > limit:
        raise Unreadable(
            "large", f"it has {file.size / 1e6:.3g} MB, more than domain.max_file_mb {section.max_file_mb:g}"
        )
    if file.size == 0:
        raise Unreadable("empty", "it is empty")
    try:
        data = read(file.uri)
    except (DataError, Missing) as error:  # a store that does not answer is no reason to learn from fewer documents
        raise Unreadable("unread", error.message) from error
    try:
        return read_sections(file.name, data)
    except InfraError as error:  # nor is a machine that ended the reading
        raise InfraError(f"{file.uri}: {error.message}", hint=error.hint) from error


def _clean(document: Document, section: DocumentsDomain, seen: Survey) -> Document:
    """The document without what should not be learned, above its texts as in them."""
    kept, line = [], 1

    def clean(text: str) -> str:
        text = text.encode("utf-8", "replace").decode() if lone_surrogate(text) else text
        plain, spans = without_instructions(document.name, text, line)
        seen.instructions += spans
        if section.instructions == "keep":
            return text
        plain, unseen = without_unseen(plain)
        seen.unseen += unseen
        return plain

    @cache  # a heading stands above many texts, and is told once
    def clean_words(words: str) -> str:
        return clean(words).strip()

    title = clean_words(document.title) or clean_words(title_of_file(document.name))
    for part in document.sections:
        headings = tuple(words for heading in part.headings if (words := clean_words(heading)))
        line += bool(part.headings)
        if (text := clean(part.text)).strip():
            kept.append(DocumentSection(headings, text))
        line += part.text.count("\n") + 1
    if not kept:
        raise Unreadable("only_instructions", "it holds nothing but instructions to a model")
    return Document(document.name, title, tuple(kept))


def _why(seen: Survey) -> str:
    if not seen.passed_over:
        return ""
    named = _named(f"{p.document}: {p.reason}" for p in seen.passed_over)
    return f" ({_count(len(seen.passed_over), 'file was', 'files were')} passed over: {named})"


def _what_is_read() -> str:
    return "give Markdown, text, HTML or PDF with text in it"


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _named(names: Iterable[str]) -> str:
    listed = list(names)
    more = f", and {len(listed) - FEW} more" if len(listed) > FEW else ""
    return "; ".join(listed[:FEW]) + more
