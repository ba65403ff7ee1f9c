"""A folder of documents becomes passages; what can't be learned from is said, and what speaks to a model goes."""

import errno
import importlib.util
import io
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from unlistable import unlistable

from seal_ray import config_file
from seal_ray.config import StorageSection
from seal_ray.domains import configured
from seal_ray.domains.documents import pdf_process
from seal_ray.domains.documents.copies import Copies
from seal_ray.domains.documents.cutting import cut, pieces, tokens
from seal_ray.domains.documents.sections import Document, DocumentSection, read_sections
from seal_ray.domains.documents.survey import survey
from seal_ray.domains.documents.unreadable import Unreadable
from seal_ray.domains.sentences import sentences
from seal_ray.errors import DataError, InfraError, Missing, SealError, StorageError
from seal_ray.storage.input_folders import InputFile, InputReader

MARSH = (
    "# Odo Marsh\n\nOdo Marsh built a bridge of blue glass in 1803.\n\n"
    "## Youth\n\nHe was born in Selmouth to a ferryman.\n"
)


def documents(folder: Path | str, **changes: Any) -> Any:
    sets = [f"domain.{key}={value}" for key, value in changes.items()]
    return configured(config_file.parse(f"domain: {{name: documents, data: {folder}}}", "test", sets))


def write(folder: Path, **files: str | bytes) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_md", ".md").replace("_txt", ".txt").replace("_html", ".html")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def texts(domain: Any) -> list[tuple[str, str]]:
    return [(t.data["title"], t.data["context"]) for t in domain.tasks("train")]


# from a folder to tasks


def test_a_folder_becomes_passages_with_titles_headings_and_paths(tmp_path: Path) -> None:
    write(tmp_path, a_md=MARSH, deep__b_txt="The tide clock had eleven dials.", **{"_hidden_md": "secret"})
    (tmp_path / "_hidden.md").rename(tmp_path / ".hidden.md")
    domain = documents(tmp_path)
    tasks = domain.tasks("train")
    assert [(t.data["document"], t.data["title"]) for t in tasks] == [
        ("a.md", "Odo Marsh"),
        ("a.md", "Odo Marsh: Youth"),
        ("deep/b.txt", "b"),
    ]
    assert tasks[1].data["headings"] == ["Odo Marsh", "Youth"]
    assert tasks[1].data["context"] == "He was born in Selmouth to a ferryman."
    assert [t.group for t in tasks] == ["a.md", "a.md", "deep/b.txt"], "a document is never in two splits"
    assert domain.questions(tasks[0]) == []
    assert "Odo Marsh" in domain.edit_request(tasks[0], 0).prompt.text


def test_a_file_a_pattern_and_a_uri_are_sources_too(tmp_path: Path) -> None:
    write(tmp_path, a_md="# A\n\nAlpha is here.", b_md="# B\n\nBeta is here.", c_txt="Gamma is here.")
    assert len(texts(documents(tmp_path / "a.md"))) == 1
    assert [t for t, _ in texts(documents(f"{tmp_path}/*.md"))] == ["A", "B"]
    assert [t for t, _ in texts(documents(f"file://{tmp_path}"))] == ["A", "B", "c"]
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/docs/x.md", b"# X\n\nXi is here.")
    memory.pipe_file("/docs/sub/y.txt", b"Ypsilon is here.")
    assert [t for t, _ in texts(documents("memory://docs"))] == ["y", "X"]
    assert [t for t, _ in texts(documents("memory://docs/x.md"))] == ["X"]
    assert [t for t, _ in texts(documents("memory://docs/*.md"))] == ["X"]


def test_tasks_are_the_same_in_every_reading(tmp_path: Path) -> None:
    write(tmp_path, b_md=MARSH, a_txt="One.\n\nTwo.")
    assert documents(tmp_path).tasks("train") == documents(tmp_path).tasks("train")


def test_questions_of_people_go_to_the_passage_that_answers_them(tmp_path: Path) -> None:
    write(tmp_path, a_md=MARSH, b_md="# Selmouth\n\nSelmouth has 42 wells.")
    asked = tmp_path / "asked.json"
    asked.write_text(
        '[{"question": "Where was Odo Marsh born?", "answer": "Selmouth"},'
        ' {"question": "How many wells?", "answers": ["42", "forty-two"], "document": "b.md"},'
        ' {"question": "Who?", "answer": "nobody of these"}]'
    )
    domain = documents(tmp_path, questions=asked)
    placed = {t.data["title"]: [q["question"] for q in t.data["questions"]] for t in domain.tasks("train")}
    assert placed == {
        "Odo Marsh": [],
        "Odo Marsh: Youth": ["Where was Odo Marsh born?"],
        "Selmouth": ["How many wells?"],
    }
    assert any("stands in no passage" in w for w in domain.warnings)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"answer": "x"}]', "entry 1 has no question"),
        ('[{"question": "Why?"}]', "has no answer"),
        ("nothing", "not JSON"),
        ('[{"question": "Why?", "answer": "x", "document": "z.md"}]', "no document 'z.md'"),
    ],
)
def test_questions_that_are_none_are_refused(tmp_path: Path, content: str, said: str) -> None:
    write(tmp_path, a_md=MARSH)
    (tmp_path / "asked.json").write_text(content)
    with pytest.raises(DataError, match=said):
        documents(tmp_path, questions=tmp_path / "asked.json").tasks("train")


def test_a_folder_may_have_a_dot_in_its_name_and_a_file_none(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("set-v1.2/x.md", "set-v1.2/.hidden.md", "README", "set/one", "set-v2.md"):
        memory.pipe_file(f"/dots/{name}", b"words")
    files = InputReader(StorageSection()).files
    for source, names in {
        "dots/set-v1.2": ["x.md"],
        "dots/set-v1.2/": ["x.md"],
        "dots/README": ["README"],
        "dots/set-v2.md": ["set-v2.md"],
        "dots/set": ["one"],
        "dots/nothing": [],
        "dots/nothing.md": [],
        "nothing-v1.2": [],
        "nothing": [],
    }.items():
        assert [file.name for file in files(f"memory://{source}")] == names, source
    (file,) = files("memory://dots/README")
    assert (file.uri, file.size) == ("memory://dots/README", 5)


def test_a_folder_that_can_not_be_listed_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, a_md=MARSH, deep__b_txt="The tide clock had eleven dials.")
    unlistable(monkeypatch, tmp_path / "deep", errno.EACCES)
    with pytest.raises(DataError, match=f"{tmp_path}/deep can't be listed: Permission denied"):
        documents(tmp_path).tasks("train")


# bad input


def test_an_empty_folder_and_one_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no text to learn; give Markdown"):
        documents(tmp_path).tasks("train")
    write(tmp_path, a_md=b"", b_txt=b"\x7fELF\0\0\0", **{"c.xyz": "text"})
    with pytest.raises(DataError, match=r"3 files were passed over: a.md: it is empty; b.txt: it is a binary file"):
        documents(tmp_path).tasks("train")
    with pytest.raises(DataError, match="there is no"):
        documents(tmp_path / "nowhere").tasks("train")


def test_what_is_passed_over_is_said_and_the_rest_is_learned(tmp_path: Path) -> None:
    write(tmp_path, a_md=MARSH, b_txt=b"\x00\x01\x02", c_txt="wide " * 200, d_txt=b"caf\xe9", e_txt=b"na\xefve")
    domain = documents(tmp_path, max_file_mb=0.0005)
    assert [t for t, _ in texts(domain)] == ["Odo Marsh", "Odo Marsh: Youth"]
    said = " ".join(domain.warnings)
    assert "b.txt: it is a binary file" in said and "2 files are passed over: d.txt: it is not UTF-8 text" in said
    assert "c.txt: it has 0.001 MB, more than domain.max_file_mb 0.0005" in said


def test_too_many_files_or_passages_are_refused(tmp_path: Path) -> None:
    write(tmp_path, a_md=MARSH, b_md="# Other\n\nText of its own.")
    with pytest.raises(DataError, match="more than 1 files"):
        documents(tmp_path, max_files=1).tasks("train")
    with pytest.raises(DataError, match="more than 2 passages"):
        documents(tmp_path, max_passages=2).tasks("train")


def test_one_enormous_line_is_cut_and_nothing_of_it_is_lost() -> None:
    for line in ("word " * 50_000, "x" * 300_000, "水" * 90_000, "Eine Zeile. " * 20_000):
        made = list(pieces(line, 300))
        assert "".join("".join(p.split()) for p in made) == "".join(line.split())
        assert max(map(tokens, made)) <= 300


def test_other_scripts_are_cut_at_their_own_sentences() -> None:
    chinese = "潮汐钟有十一个表盘。它由奥达利斯建造！谁拒绝了市长？"
    assert [chinese[a:b] for a, b in sentences(chinese)] == [
        "潮汐钟有十一个表盘。",
        "它由奥达利斯建造！",
        "谁拒绝了市长？",
    ]
    hindi = "यह घड़ी है। इसमें ग्यारह डायल हैं।"
    assert len(sentences(hindi)) == 2
    english = "Dr. Wren met J. Marsh at 5 p.m. in Selmouth. She (quietly) left.\nA new line"
    assert [english[a:b] for a, b in sentences(english)][-1] == "A new line"
    assert "Dr. Wren met J. Marsh" in english[slice(*sentences(english)[0])]


# kinds of files


def test_markdown_is_cut_at_headings_but_not_at_comments_in_code() -> None:
    text = b"---\ntitle: 'The Manual'\n---\nIntro\n=====\nHello there.\n\n```\n# not a heading\n```\n\n"
    text += b"Part\n----\nMore.\n### Deep ##\nEnd.\n"
    made = read_sections("m.md", text)
    assert made.title == "The Manual"
    assert [s.headings for s in made.sections] == [("Intro",), ("Intro", "Part"), ("Intro", "Part", "Deep")]
    assert "# not a heading" in made.sections[0].text


def test_a_page_is_read_as_a_person_would() -> None:
    page = b"""<html><head><title>Tide &amp; Clock</title><style>p{}</style></head><body><nav>menu</nav>
    <h1>Clock</h1><p>It has <b>eleven</b> dials.<br>It ran on the tide.<script>alert(1)</script>
    <p style="display: none">Ignore this</p><h2>Wells</h2><table><tr><td>wells</td><td>42</td></tr></table>
    <p>caf&eacute;<footer>imprint</footer></body>"""
    made = read_sections("p.html", page)
    assert made.title == "Tide & Clock"
    assert [s.headings for s in made.sections] == [("Clock",), ("Clock", "Wells")]
    assert made.sections[0].text == "It has eleven dials.\nIt ran on the tide."
    assert made.sections[1].text == "wells 42\ncafé"


@pytest.mark.parametrize(
    ("style", "is_read"),
    [
        ("font-size:0.9em", True), ("font-size: 0.875rem; color: red", True), ("opacity: 0.5", True),
        ("font-size:0", False), ("font-size: 0px;", False), ("opacity:0", False), ("opacity: 0.0;", False),
        ("color: red; DISPLAY : none !important", False), ("visibility:hidden", False),
    ],
)  # fmt: skip
def test_small_print_is_read_and_what_nobody_sees_is_not(style: str, is_read: bool) -> None:
    made = read_sections("p.html", f'<p>Seen.</p><p style="{style}">Small print.</p>'.encode())
    assert ("Small print." in made.sections[0].text) is is_read


def test_a_store_that_does_not_answer_takes_no_document_away(tmp_path: Path) -> None:
    section = documents(tmp_path)._section
    files = [InputFile("a.md", "s3://b/a.md", 9), InputFile("b.md", "s3://b/b.md", 9)]

    def read(uri: str, error: SealError) -> bytes:
        if uri.endswith("b.md"):
            raise error
        return b"One two three."

    with pytest.raises(StorageError, match="no answer"):
        survey(files, lambda uri: read(uri, StorageError("read: no answer")), section)
    for gone in (Missing("nothing is there"), DataError("it can't be read")):
        passages, seen = survey(files, partial(read, error=gone), section)
        assert [p.document for p in passages] == ["a.md"] and [p.kind for p in seen.passed_over] == ["unread"]


def test_a_page_nested_without_end_is_read_in_linear_time() -> None:
    assert read_sections("p.html", b"<div>" * 100_000 + b"deep").sections[0].text == "deep"


@pytest.mark.parametrize("kind", ["utf-8-sig", "utf-16"])
def test_a_mark_at_the_beginning_says_how_a_text_is_coded(kind: str) -> None:
    assert read_sections("a.txt", "Grüße".encode(kind)).sections[0].text == "Grüße"


def _pdf(text: str, *, encrypted: bool = False) -> bytes:
    """The smallest PDF with one page that says this."""
    stream = f"BT /F1 12 Tf 72 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> "
        b"/MediaBox [0 0 612 792] >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data = b"%PDF-1.4\n"
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % p for p in places)
    at = len(data)
    data += b"xref\n0 6\n0000000000 65535 f \n" + table
    return data + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % at


@pytest.mark.skipif(importlib.util.find_spec("pypdf") is None, reason="pypdf comes with the extra `documents`")
def test_a_pdf_gives_its_text_and_says_where_it_has_none() -> None:
    assert "eleven dials" in read_sections("a.pdf", _pdf("The clock had eleven dials.")).sections[0].text
    with pytest.raises(Unreadable, match="recognise it first"):
        read_sections("a.pdf", _pdf(""))
    with pytest.raises(Unreadable, match="can't be read"):
        read_sections("a.pdf", b"%PDF-1.4 and then nothing")


def test_pages_without_text_are_counted_and_told(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf", reason="pypdf comes with the extra `documents`")
    writer = pypdf.PdfWriter()
    for text in ("The clock had eleven dials.", "", "It ran on the tide.", ""):
        writer.append(io.BytesIO(_pdf(text)))
    writer.write(tmp_path / "scanned.pdf")
    write(tmp_path, **{"whole.pdf": _pdf("The marsh was mapped on oiled silk.")})
    domain = documents(tmp_path)
    (passage, _) = domain.tasks("train")
    assert "eleven dials" in passage.data["context"] and "on the tide" in passage.data["context"]
    (said,) = domain.warnings
    assert said == ("2 pages hold no text; if they are pictures of it, recognise it first (OCR): scanned.pdf, 2 pages")


def test_a_reader_that_is_killed_is_no_slow_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in for the reading process ends by the signal that the file names."""
    program = tmp_path / "program.py"
    program.write_text("import os, signal, sys\nos.kill(os.getpid(), signal.Signals[sys.stdin.read()])\n")
    (tmp_path / "pypdf.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(pdf_process, "__file__", str(program))
    folder = tmp_path / "documents"
    folder.mkdir()
    write(folder, a_md=MARSH)

    def ended_by(name: str) -> Any:
        (folder / "b.pdf").write_text(name)
        return documents(folder).survey.passed_over

    for name in ("SIGKILL", "SIGTERM"):
        with pytest.raises(InfraError, match=rf"b\.pdf: .* was killed \({name}\).*memory"):
            ended_by(name)
    (crashed,), (slow,) = ended_by("SIGSEGV"), ended_by("SIGXCPU")
    assert crashed.kind == "damaged" and "SIGSEGV" in crashed.reason
    assert slow.kind == "slow" and "of computing" in slow.reason


# cutting


def test_passages_keep_within_their_size_and_tiny_sections_go_together() -> None:
    made = cut(Document("a", "T", (DocumentSection(("T",), "Hi."), DocumentSection(("T", "A"), "word " * 900))), 300)
    assert made[0].text.startswith("Hi.\n\nword") or made[0].text == "Hi."
    assert all(tokens(p.text) <= 300 for p in made)
    joined = cut(
        Document(
            "a", "T", (DocumentSection(("T",), "Hi."), DocumentSection(("T", "A"), "A full sentence stands here."))
        ),
        300,
    )
    assert [(p.title, p.text) for p in joined] == [("T: A", "Hi.\n\nA full sentence stands here.")]


# copies


def test_copies_and_near_copies_are_left_out_and_reported(tmp_path: Path) -> None:
    long = " ".join(f"The {n}th well of the marsh was dug by family {n * 7}." for n in range(30))
    changed = long.replace("family 70.", "family 71.")
    other = " ".join(f"Clock {n} shows the tide of harbour {n * 3} at noon." for n in range(30))
    write(tmp_path, a_txt=long, b_txt=f"  {long}\n", c_txt=changed, d_txt=other)
    domain = documents(tmp_path, passage_tokens=1000)
    assert [t.data["document"] for t in domain.tasks("train")] == ["a.txt", "d.txt"]
    assert [(c.document, c.similarity == 1) for c in domain.survey.copies] == [("b.txt", True), ("c.txt", False)]
    assert any("2 passages are left out as copies (1 exact)" in w for w in domain.warnings)
    assert len(documents(tmp_path, passage_tokens=1000, near_copies=1).tasks("train")) == 3


def test_texts_on_the_same_subject_are_no_copies() -> None:
    copies = Copies(0.85)
    for n in range(200):
        assert (
            copies.add(str(n), f"Passage {n} tells of harbour {n * 31} and of its master {n * 17}, who had {n} ships.")
            is None
        )


def test_a_short_text_under_another_title_is_no_copy(tmp_path: Path) -> None:
    open_at = "Monday to Friday, from nine in the morning to five in the afternoon, on Saturday to noon; not on Sunday."
    write(tmp_path, museum_md=f"# Museum\n\n{open_at}", library_md=f"# Library\n\n{open_at}")
    write(tmp_path, again_md=f"# Museum\n\n{open_at}", nearly_md=f"# Library\n\n{open_at} Ring the bell.")
    domain = documents(tmp_path)
    assert [t.data["document"] for t in domain.tasks("train")] == ["again.md", "library.md"]
    assert {c.document: c.similarity == 1 for c in domain.survey.copies} == {"museum.md": True, "nearly.md": False}
