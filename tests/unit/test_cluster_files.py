"""The files of the cluster's room but for KubeRay's manifests: launchers, policies, Prometheus, Slurm."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from misspelling import misspelt, paths

ROOT = Path(__file__).parents[2]


def test_both_prometheuses_get_the_same_rules_and_every_panel_obeys_the_chosen_run() -> None:
    monitoring = ROOT / "cluster/kubernetes/components/monitoring"
    rules = yaml.safe_load((monitoring / "rules.yaml").read_text())
    plain = yaml.safe_load((ROOT / "cluster/alerts.yaml").read_text())
    assert rules["spec"] == plain
    for rule in plain["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"} and rule["annotations"]["runbook"]
    dashboard = json.loads((monitoring / "grafana.json").read_text())
    asked = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", [])]
    assert len(asked) > 10
    for expression in asked:
        assert expression.count('run=~"$run"') == len(re.findall(r"ray_seal_\w+", expression)), expression


def ray_accepts(manifest: Any) -> bool:
    """Whether Ray's cluster launcher takes it. On AWS it looks a machine's resources up where none are given."""
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    manifest = copy.deepcopy(manifest)
    for kind in manifest.get("available_node_types", {}).values():
        kind.setdefault("resources", {})
    return jsonschema.Draft7Validator(schema).is_valid(manifest)


def test_the_file_for_aws_is_what_rays_launcher_takes_and_a_misspelt_field_is_found() -> None:
    manifest = yaml.safe_load((ROOT / "cluster/aws/ray-up.yaml").read_text())
    assert ray_accepts(manifest)
    own = [at for at in paths(manifest) if not {"node_config", "file_mounts", "resources", "provider"} & set(at[:-1])]
    wrong = [at for at in own if at[-1] not in {"resources", "head", "gpu"} and ray_accepts(misspelt(manifest, at))]
    assert wrong == [] and len(own) > 10


RULES = {
    "groups": {"name": str, "rules": {"alert": str, "expr": str, "for": str, "annotations": dict, "labels": dict}},
}
SCRAPES = {
    "global": {"scrape_interval": str, "evaluation_interval": str},
    "rule_files": list,
    "scrape_configs": {"job_name": str, "file_sd_configs": {"files": list, "refresh_interval": str}},
}


def strange(value: Any, known: Any, at: str = "") -> list[str]:
    """Keys that Prometheus does not know, or values of another kind."""
    if isinstance(value, list) and isinstance(known, dict):
        return [text for i, v in enumerate(value) for text in strange(v, known, f"{at}[{i}]")]
    if not isinstance(known, dict):
        return [] if isinstance(value, known) else [at]
    if not isinstance(value, dict):
        return [at]
    return [t for k, v in value.items() for t in (strange(v, known[k], f"{at}.{k}") if k in known else [f"{at}.{k}"])]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("aws/ray-up.yaml", {"registry.example.com", "sha256:0000", "ami-0000", "sg-0000"}),
        ("aws/run-policy.json", {"BUCKET", "TEAM", "REGION", "ACCOUNT", "key/KEY"}),
        ("aws/keeper-policy.json", {"BUCKET", "TEAM"}),
        ("aws/head-policy.json", {"REGION", "ACCOUNT"}),
        ("aws/launcher-policy.json", {"REGION", "ACCOUNT"}),
        ("skypilot.yaml", {"registry.example.com", "BUCKET", "TEAM"}),
    ],
)
def test_what_is_not_filled_in_of_a_launchers_file_is_told(name: str, parts: set[str]) -> None:
    text = (ROOT / "cluster" / name).read_text()
    words = [sys.executable, str(ROOT / "cluster/check.py")]
    told = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert told.returncode == 2 and all(f"still has {part}" in told.stdout for part in parts), told.stdout
    for wrong, right in (("registry.example.com", "registry.our.org"), ("0" * 64, "1" * 64), ("0" * 17, "1" * 17)):
        text = text.replace(wrong, right)
    for word in ("BUCKET", "TEAM", "REGION", "ACCOUNT", "KEY"):
        text = text.replace(word, "ours")
    told = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(("name", "known"), [("alerts.yaml", RULES), ("prometheus.yaml", SCRAPES)])
def test_what_prometheus_reads_has_no_strange_field(name: str, known: Any) -> None:
    manifest = yaml.safe_load((ROOT / "cluster" / name).read_text())
    assert strange(manifest, known) == []
    for at in paths(manifest):
        assert strange(misspelt(manifest, at), known) or "annotations" in at[:-1], at
    for rule in (r for g in manifest.get("groups", []) for r in g["rules"]):
        assert rule["expr"] and rule["annotations"]["summary"] and re.fullmatch(r"\d+m", rule.get("for", "1m"))


def test_the_script_for_slurm_is_a_script() -> None:
    path = ROOT / "cluster/slurm.sh"
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert subprocess.run(["bash", str(path)], capture_output=True, check=False).returncode == 2  # says how it is used


def test_policies_allow_what_is_needed_and_no_more() -> None:
    allowed: dict[str, list[dict[str, Any]]] = {}
    for path in (ROOT / "cluster/aws").glob("*-policy.json"):
        allowed[path.stem] = json.loads(path.read_text())["Statement"]
        for statement in allowed[path.stem]:
            assert not any("*" in a for a in actions(statement))
            reads = all(re.search(r":(Describe|Get|Batch)", a) for a in actions(statement))
            assert statement["Resource"] != "*" or reads, statement
    deletes = [s for s in allowed["run-policy"] if "s3:DeleteObject" in actions(s)]
    assert all(r.endswith("/.probe-*") for s in deletes for r in s["Resource"])
    head = [a for s in allowed["head-policy"] for a in actions(s)]
    assert {"ec2:RunInstances", "ec2:TerminateInstances", "iam:PassRole"} <= set(head)


def actions(statement: dict[str, Any]) -> list[str]:
    action = statement["Action"]
    return action if isinstance(action, list) else [action]


def test_every_other_file_of_the_room_parses() -> None:
    for path in (ROOT / "cluster").rglob("*"):
        if path.suffix == ".yaml":
            assert list(yaml.safe_load_all(path.read_text()))
        elif path.suffix == ".json":
            assert json.loads(path.read_text())
