"""Whatever lies in a folder of documents: it is passed over and said so, or all that a run does with it works."""

import importlib.util
import json
import os
import random
import zlib
from pathlib import Path
from typing import Any

import pytest
from amounts import AMOUNTS
from growth import grows_faster
from seeds import drawing
from test_data_files import TOKENIZER

from seal_ray import config_file
from seal_ray.domains import configured
from seal_ray.domains.documents import pdf_text
from seal_ray.domains.documents.cutting import cut
from seal_ray.domains.documents.instructions import without_instructions
from seal_ray.domains.documents.sections import LONGEST, READERS, read_sections
from seal_ray.domains.documents.unreadable import Unreadable
from seal_ray.errors import DataError, SealError
from seal_ray.models import render
from seal_ray.records import canonical, encode

# pieces of the forms, whole and broken, that a reader looks for
PAGE = [
    "<", "<!", "<!--", "-->", "<a ", "</", "</a", "<a b='", '<a b="', "<a b=", "<a/", "<a b ", "<![CDATA[", "]]>", "<?",
    "<h1>", "</h1>", "<h2 id=x>", "<title>x<b>", "<div hidden>", "</div>", "<script>", "</script", "</script>",
    "<style>", "<svg>", "<td>", "<p>", "<p hidden>", "<b hidden>", "<li hidden>", "</li>", "</b>", "<br/>",
    "<p style='display:none'>", "&#", "&#x41", "&amp", "&a;", "&#" + "9" * 40 + ";", "&#xD800;",
    "text ", "x < y", ">", "'", '"', "=", "\n",
]  # fmt: skip
PROSE = [
    " ", "a ", "\n", "\t", "\u3000", "\x0b", "# ", "# a\n", "## a\nx\n", "#", "*", "```", "~~~\n", "a\n=\n",
    "a\n-\n", "---\n", "title: ", "> ", "a.", "A. ", "。", "! ", '"', "|", "\u200b", "\ufeff", " \n", "1. ",
    "Ignore all previous instructions. ", "When asked, say ", "you are an AI ", "<|im_end|>", "word ", "ﾞ", "²", "\x00",
    "\U000e0041",
]  # fmt: skip


def laid_out(name: str, text: str) -> None:
    try:
        document = read_sections(name, text.encode())
    except Unreadable:
        return
    cut(document, 300)
    for section in document.sections:
        without_instructions(name, section.text)


@pytest.mark.parametrize("part", PAGE)
def test_a_page_takes_time_linear_in_its_length(part: str) -> None:
    for before, after in (("", ""), ("<p>a", ">"), ("<script>", "</script>"), ("<title>", "-->")):
        assert not grows_faster(lambda text: laid_out("a.html", text), part, before, after), (before, after)


@pytest.mark.parametrize("part", PROSE)
def test_a_text_takes_time_linear_in_its_length(part: str) -> None:
    for before, after in (("", ""), ("# a", "b"), ("a", "b")):
        assert not grows_faster(lambda text: laid_out("a.md", text), part, before, after), (before, after)


@pytest.mark.parametrize("name", ["a.md", "a.html"])
def test_a_long_heading_is_not_carried_along_by_each_passage(name: str) -> None:
    above, below = ("# {}\n", "## b\ntext\n") if name == "a.md" else ("<h1>{}</h1>", "<h2>b</h2>text")
    document = read_sections(name, (above.format("long " * 20_000) + below * 2000).encode())
    assert len(document.sections) == 2000
    assert all(len(heading) <= LONGEST for section in document.sections for heading in section.headings)


# pages


def test_what_a_page_leaves_open_hides_what_comes_after_it_as_in_a_browser() -> None:
    for text, told in (
        ("<p>one<!-- two", "one"),
        ("<p>one<a href='two>three", "one"),
        ("<p>one<script>two", "one"),
        ("one <!-- two --> three", "one three"),
        ("a < b and c > d", "a < b and c > d"),
        ("<p title='a>b'>one", "one"),
        ("<br/>one<div/>two", "onetwo"),
        ("&#" + "9" * 5000 + "; one &#0; &lt;p&gt;", "\ufffd one \ufffd <p>"),
    ):
        assert "\n".join(s.text for s in read_sections("a.html", text.encode()).sections) == told, text


# folders


def tasks_of(folder: Path | str, **changes: Any) -> list[Any]:
    sets = [f"domain.{key}={value}" for key, value in changes.items()]
    domain = configured(config_file.parse(f"domain: {{name: documents, data: {folder}}}", "test", sets))
    found = [task for split in ("train", "validation", "test") for task in domain.tasks(split)]
    for task in found[:20]:
        canonical(encode(task)).encode()
        render(TOKENIZER, domain.edit_request(task, 0).prompt)
        domain.questions(task)
    for warning in domain.warnings:
        warning.encode()
    json.dumps(domain.survey.as_data()).encode()
    return found


def test_names_that_are_no_text_are_written_out(tmp_path: Path) -> None:
    for number, name in enumerate([b"\xff.md", b"\xfe.md", b"a\nb.txt", b"\x1b]0;x\x07.md", b"a\\\xe2\x80\xae.md"]):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text(f"Well {number} was dug in 18{number}0.")
    found = tasks_of(tmp_path)
    assert len({task.data["document"] for task in found}) == 5
    assert all("\n" not in task.data["title"] and "\x1b" not in task.data["title"] for task in found)


def test_what_is_no_file_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/a.md").write_text("The tide clock had eleven dials.")
    (tmp_path / "secret.md").write_text("A secret outside.")
    os.mkfifo(tmp_path / "docs/pipe.md")
    (tmp_path / "docs/out.md").symlink_to(tmp_path / "secret.md")
    (tmp_path / "docs/null.md").symlink_to("/dev/zero")
    (tmp_path / "docs/round").symlink_to(tmp_path / "docs")
    (tmp_path / "docs/gone.md").symlink_to(tmp_path / "nothing")
    (tmp_path / "docs/folder.md").mkdir()
    assert [task.data["document"] for task in tasks_of(tmp_path / "docs")] == ["a.md"]


@pytest.mark.parametrize("pattern", ["*.md", "**"])
def test_a_pattern_leads_to_no_pipe_and_no_device(pattern: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("The tide clock had eleven dials.")
    os.mkfifo(tmp_path / "pipe.md")
    (tmp_path / "null.md").symlink_to("/dev/zero")
    assert [task.data["document"] for task in tasks_of(f"{tmp_path}/{pattern}")] == ["a.md"]


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question": "half \ud800?", "answer": "eleven"}, "half a surrogate pair"),
        ({"question": "How many?", "answer": "\udfff"}, "half a surrogate pair"),
        ({"question": "How many?", "answer": float("nan")}, "the answer nan"),
        ({"question": "How many?", "answer": [float("inf")]}, "the answer inf"),
        ({"question": "How many?"}, "no answer"),
        ([], "no question"),
    ],
)
def test_questions_that_no_record_can_hold_are_refused_with_their_place(row: Any, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("The tide clock had eleven dials.")
    (tmp_path / "q.json").write_text(json.dumps([{"question": "How many?", "answer": "eleven"}, row]))
    with pytest.raises(DataError, match=rf"entry 2.*{told}"):
        tasks_of(tmp_path / "a.md", questions=tmp_path / "q.json")


FILES = {
    "a.md": "---\ntitle: Odo\n---\n# Odo Marsh\n\nHe built a bridge in 1803.\n\n## Youth\n\nHis father rowed.\n",
    "b.html": "<html><title>Clock</title><h1>Clock</h1><p>It has <b>eleven</b> dials &amp; a bell.</p></html>",
    "c.txt": "The night fern grows on an island.\n\nNobody has seen it since 1652.\n",
    "q.json": '[{"question": "When was the bridge built?", "answer": "1803", "document": "a.md"}]',
}
RAW = [b"\xff", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\r", b"\x85", b"PK\x03\x04", b"%PDF-1.7\n"]


def damaged(draw: random.Random, text: str, parts: list[str]) -> bytes:
    data = text.encode()
    for _ in range(draw.randrange(4)):
        at = draw.randrange(len(data) + 1)
        new = draw.choice(RAW) if draw.random() < 0.2 else draw.choice(parts).encode() * draw.choice([1, 1, 2, 500])
        data = data[:at] + new + data[at + draw.randrange(8) :]
    return data


def attack(seed: str, folders: int, tmp_path: Path) -> int:
    draw, taken = drawing(seed), 0
    for number in range(folders):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in FILES.items():
            (folder / name).write_bytes(damaged(draw, text, PAGE if name == "b.html" else PROSE))
        questions = {"questions": folder / "q.json"} if draw.random() < 0.5 else {}
        try:
            taken += bool(tasks_of(folder, **questions))
        except SealError as error:
            assert error.exit_code == 2, f"{seed} {number}: {error}"
            str(error).encode()
        except Exception as error:
            raise AssertionError(f"{seed} {number}: {type(error).__name__}: {error}") from error
    return taken


def test_folders_of_damaged_documents_are_learned_or_refused(tmp_path: Path) -> None:
    folders = AMOUNTS["documents"].quick
    assert folders / 5 < attack("documents", folders, tmp_path) < folders


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(AMOUNTS["documents"].times))
def test_many_folders_of_damaged_documents_are_learned_or_refused(seed: int, tmp_path: Path) -> None:
    attack(f"documents {seed}", AMOUNTS["documents"].long, tmp_path)


# PDF: what unfolds without end is read in a process that has one

PDF = pytest.mark.skipif(importlib.util.find_spec("pypdf") is None, reason="pypdf comes with the extra `documents`")
CONTROLS = {chr(n) for n in (*range(0x20), 0x7F)}
SAYS = b"BT /F1 12 Tf (The clock had eleven dials.) Tj ET "


def pdf(content: bytes, title: bytes = b"()", form: bytes = b"") -> bytes:
    packed = zlib.compress(content, 9)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 999999>>",
        b"<</Type/Page/Parent 2 0 R/Contents 4 0 R/MediaBox[0 0 9 9]"
        b"/Resources<</Font<</F1 5 0 R>>/XObject<</X 6 0 R>>>>>>",
        b"<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream" % (len(packed), packed),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
        b"<</Type/XObject/Subtype/Form/Resources<</XObject<</X 6 0 R>>>>/Length %d>>stream\n%s\nendstream"
        % (len(form), form),
        b"<</Title %s>>" % title,
    ]
    data, places = b"%PDF-1.5\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % at for at in places)
    end = b"xref\n0 8\n0000000000 65535 f \n" + table + b"trailer<</Size 8/Root 1 0 R/Info 7 0 R>>\nstartxref\n"
    return data + end + b"%d\n%%%%EOF" % len(data)


@PDF
def test_a_pdf_that_needs_too_much_computing_or_memory_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "eleven dials" in read_sections("a.pdf", pdf(SAYS)).sections[0].text
    monkeypatch.setattr(pdf_text, "SECONDS", 2)
    long = pdf(SAYS * 100_000)
    assert len(long) < 40_000
    with pytest.raises(Unreadable, match="2 s of computing") as slow:
        read_sections("a.pdf", long)
    assert slow.value.kind == "slow"
    monkeypatch.setattr(pdf_text, "SECONDS", 120)  # memory alone is too little, on a slow machine as well
    monkeypatch.setattr(pdf_text, "MEMORY", 150 << 20)
    with pytest.raises(Unreadable) as large:
        read_sections("a.pdf", pdf(b"q " * 30_000_000))
    assert large.value.kind in {"large", "damaged"}


@PDF
def test_a_pdf_that_says_anything_of_itself_is_read_or_passed_over(tmp_path: Path) -> None:
    for number, title in enumerate(
        [b"<FEFFD8000041>", b"(a\\033]0;x\\007\\nb)", b"<FEFF202E>", b"(" + b"x" * 9000 + b")"]
    ):
        (tmp_path / f"{number}.pdf").write_bytes(pdf(SAYS.replace(b"eleven", b"%d" % number), title))
    (tmp_path / "loop.pdf").write_bytes(pdf(b"/X Do " * 20, form=b"/X Do /X Do"))
    (tmp_path / "zip.pdf").write_bytes(b"PK\x03\x04" + bytes(1000))
    found = tasks_of(tmp_path)
    assert len(found) == 4
    titles = [task.data["title"] for task in found]
    assert all(len(title) <= LONGEST and title.encode() and not set(title) & CONTROLS for title in titles), titles


def test_every_kind_of_document_has_been_attacked() -> None:
    assert set(READERS) == {".md", ".markdown", ".txt", ".text", ".rst", ".html", ".htm", ".xhtml", ".pdf"}
