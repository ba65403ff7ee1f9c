"""A run whose secrets are missing is refused before a cluster is asked for anything, and never prints one."""

import subprocess
from pathlib import Path

from command import COMMAND, ROOT, environment

SECRETS = ("AWS_", "OPENAI_API_KEY", "HF_TOKEN", "RAY_")


def refused(tmp_path: Path, *overrides: str, **more: str) -> tuple[int, str]:
    """Exit code and message. The cluster that is named does not exist: whoever got that far would say so."""
    bare = {k: v for k, v in environment().items() if not k.startswith(SECRETS)}
    env = bare | {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "RAY_AUTH_MODE": "token"} | more
    words = ["run", "jobs/tiny.yaml", "--set", "placement.address=127.0.0.1:7"]
    for override in overrides:
        words += ["--set", override]
    done = subprocess.run(
        [COMMAND, *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert "Traceback" not in done.stderr and "placement.address" not in done.stderr
    return done.returncode, done.stderr


def test_a_judge_without_its_key_is_refused(tmp_path: Path) -> None:
    judge = ["grading.grader=judge", "grading.judge_url=http://127.0.0.1:9", "grading.judge_model=m"]
    code, said = refused(tmp_path, f"run.uri={tmp_path}/run", *judge)
    assert code == 2 and "grading.judge_key_env" in said and "export OPENAI_API_KEY" in said
    assert not (tmp_path / "run").exists()


def test_a_store_without_credentials_is_refused(tmp_path: Path) -> None:
    code, said = refused(tmp_path, "run.uri=s3://bucket/run", "storage.endpoint=http://127.0.0.1:9")
    assert code == 3 and "s3://bucket/run" in said and "set credentials" in said


def test_a_store_that_refuses_credentials_does_not_show_them(tmp_path: Path) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "very-secret-key"}
    overrides = ["run.uri=s3://bucket/run", "storage.endpoint=http://127.0.0.1:9", "storage.patience=0"]
    code, said = refused(tmp_path, *overrides, "storage.timeout=2", **keys)
    assert code == 3 and "s3://bucket/run" in said and "very-secret-key" not in said
