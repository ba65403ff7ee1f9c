"""Problems and tasks by the id of a hub's data set, read by the real `datasets` from a hub in miniature."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest
from dataset_mirror import serve_datasets

ROOT = Path(__file__).parents[2]
FORMS = ROOT / "tests/recorded/forms"  # invented rows in the form of public data sets
# as on the hub: the name, its configuration and split, where its files lie
SETS = {
    "gsm8k": ("openai/gsm8k", "main", "train"),
    "mbpp": ("google-research-datasets/mbpp", "full", "train"),
    "humaneval": ("openai/openai_humaneval", "openai_humaneval", "test"),
}
HUMANEVAL = {
    "name": "code",
    "data": "hf:openai/openai_humaneval@test",
    "fields": {"tests": "test", "entry": "entry_point", "solution": "canonical_solution", "id": "task_id"},
    "shown_tests": 0,
}
READ = """
import json, sys
from seal_ray import config_file
from seal_ray.domains import configured
from seal_ray.errors import SealError
for job, overrides in json.loads(sys.stdin.read()):
    try:
        domain = configured(config_file.load(f"jobs/{job}.yaml", overrides))
        tasks = [task for split in ("train", "validation", "test") for task in domain.tasks(split)]
        print(json.dumps([task.data for task in tasks]))
    except SealError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


def rows(form: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FORMS / f"{form}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def came_to(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What each of the jobs comes to, in a process that knows no other hub: the tasks' data, or the error."""
    root = tmp_path_factory.mktemp("hub")
    folders = {}
    for form, (name, configuration, split) in SETS.items():
        folder = folders[name] = root / form
        (folder / configuration).mkdir(parents=True)
        parquet.write_table(
            arrow.Table.from_pylist(rows(form)), folder / configuration / f"{split}-00000-of-00001.parquet"
        )
        files = f"  data_files:\n  - split: {split}\n    path: {configuration}/{split}-*\n"
        (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: {configuration}\n{files}---\n")
    jobs = [
        ("gsm8k-7b", []),
        ("mbpp-7b", []),
        ("mbpp-7b", [f"domain={json.dumps(HUMANEVAL)}"]),
        ("gsm8k-7b", ["domain.fields={problem: text}"]),
        ("gsm8k-7b", ["domain.data=hf:openai/gsm8k#main@dev"]),
        ("gsm8k-7b", ["domain.data=hf:nobody/nothing"]),
    ]
    with serve_datasets(folders) as url:
        told = {"HF_ENDPOINT": url, "HF_HOME": str(root / "home"), "HF_HUB_DISABLE_TELEMETRY": "1"}
        done = subprocess.run(
            [sys.executable, "-c", READ],
            cwd=ROOT,
            env={**os.environ, **told},
            input=json.dumps(jobs),
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_jobs_own_ids_give_the_problems_and_tasks_of_these_sets(came_to: list[Any]) -> None:
    problems, tasks, completions, *_ = came_to
    answers = {row["question"]: row["answer"].rpartition("#### ")[2] for row in rows("gsm8k")}
    asked = {q["problem"]: q["answers"] for task in problems for q in task["asked"]}
    assert asked and all([answers[problem]] == given for problem, given in asked.items())
    assert {*asked, *(shown for task in problems for shown in task["shown"])} == set(answers)
    for given, form in ((tasks, "mbpp"), (completions, "humaneval")):
        text = "text" if form == "mbpp" else "prompt"
        assert {task["prompt"] for task in given} == {row[text].strip() for row in rows(form)}
        assert all(task["hidden"] and task["solution"] for task in given)
    tests = {row["text"]: row["test_list"] for row in rows("mbpp")}
    for task in tasks:
        assert [case["code"] for case in [*task["shown"], *task["hidden"]]] == tests[task["prompt"]]
    entries = {row["entry_point"] for row in rows("humaneval")}
    assert {task["entry"] for task in completions} == entries


def test_a_field_a_split_or_a_set_that_is_not_there_is_told(came_to: list[Any]) -> None:
    field, split, name = came_to[3:]
    assert field.startswith("DataError: domain.data: hf:openai/gsm8k#main, row 1: text is missing")
    assert split.startswith("DataError: domain.data: hf:openai/gsm8k can't be read") and "dev" in split
    assert name.startswith("DataError: domain.data: hf:nobody/nothing can't be read")
