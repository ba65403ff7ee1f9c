"""A small folder of invented documents, to try `seal-ray adapt` on: nobody has read them, so no model knows them.

python jobs/own_documents.py runs/mine                    runs/mine/docs and runs/mine/asked.json
seal-ray adapt runs/mine/docs --to runs/mine/adapter --set domain.questions=runs/mine/asked.json
python jobs/served_answers.py runs/mine/adapter           what is served, beside the base, over HTTP
"""

import argparse
import json
import re
from importlib import resources
from pathlib import Path


def write(folder: Path, passages: int) -> tuple[Path, Path]:
    """One Markdown file for each of the first passages of `builtin:short`, and the questions that go with them."""
    docs, asked = folder / "docs", folder / "asked.json"
    docs.mkdir(parents=True, exist_ok=True)
    questions = []
    for row in json.loads((resources.files("seal_ray") / "demo/short.json").read_text("utf-8"))[:passages]:
        name = re.sub(r"\W+", "-", row["title"].lower()) + ".md"
        (docs / name).write_text(f"# {row['title']}\n\n{row['context']}\n", encoding="utf-8")
        questions += [q | {"document": name} for q in row["questions"]]
    asked.write_text(json.dumps(questions, indent=1) + "\n", encoding="utf-8")
    return docs, asked


def main() -> None:
    parser = argparse.ArgumentParser(description="write a folder of invented documents, with questions about them")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--passages", type=int, default=8, help="documents, at most 16")
    given = parser.parse_args()
    docs, asked = write(given.folder, given.passages)
    print(f"{len(list(docs.iterdir()))} documents in {docs}, {len(json.loads(asked.read_text()))} questions in {asked}")


if __name__ == "__main__":
    main()
