"""The manifests are what KubeRay accepts, by its own schemas made strict about fields that do not exist."""

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT.parent / "shared/data/kuberay"
CASES = [("raycluster.yaml", "rayclusters.v1.json"), ("rayjob.yaml", "rayjobs.v1.json")]

needs_schemas = pytest.mark.skipif(not SCHEMAS.is_dir(), reason=f"{SCHEMAS} is not there")


def strict(schema: Any) -> Any:
    """Kubernetes drops what it does not know without a word; here that is an error."""
    if isinstance(schema, list):
        return [strict(s) for s in schema]
    if not isinstance(schema, dict):
        return schema
    out = {k: strict(v) for k, v in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object" and not open_ended:
        out["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        out.pop("type", None)
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return out


def validator(schema: str) -> jsonschema.Draft202012Validator:
    top = strict(json.loads((SCHEMAS / schema).read_text()))
    top["properties"]["metadata"] = {"type": "object"}
    top["properties"]["status"] = {}
    return jsonschema.Draft202012Validator(top)


def problems(manifest: Any, schema: str) -> list[str]:
    found = validator(schema).iter_errors(manifest)
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message}" for e in found]


@needs_schemas
@pytest.mark.parametrize(("name", "schema"), CASES)
def test_a_manifest_is_valid(name: str, schema: str) -> None:
    manifest = yaml.safe_load((ROOT / "cluster" / name).read_text())
    assert problems(manifest, schema) == []


@needs_schemas
@pytest.mark.parametrize(("name", "schema"), CASES)
def test_a_misspelt_field_is_found_at_any_depth(name: str, schema: str) -> None:
    text = (ROOT / "cluster" / name).read_text()
    for right, wrong in [("backoffLimit", "backofLimit"), ("maxReplicas", "maxReplica"), ("medium:", "medum:")]:
        if right in text:
            assert problems(yaml.safe_load(text.replace(right, wrong)), schema), wrong


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a tree, as the way to it. What stands below a map of names that its user chooses is left out."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield (*at, key)
            if key not in {"labels", "annotations", "nodeSelector", "rayStartParams", "requests", "limits", "metadata"}:
                yield from paths(below, (*at, key))
    elif isinstance(value, list):
        for i, below in enumerate(value):
            yield from paths(below, (*at, i))


def misspelt(manifest: Any, at: tuple[Any, ...]) -> Any:
    out = copy.deepcopy(manifest)
    *way, key = at
    below = out
    for step in way:
        below = below[step]
    below[f"{key}x"] = below.pop(key)
    return out


@needs_schemas
@pytest.mark.parametrize(("name", "schema"), CASES)
def test_every_field_that_is_misspelt_is_found(name: str, schema: str) -> None:
    manifest = yaml.safe_load((ROOT / "cluster" / name).read_text())
    found = {at[-1]: at for at in paths(manifest) if at[0] == "spec"}  # each field's name once
    assert len(found) > 40
    check = validator(schema)
    assert [at for at in found.values() if check.is_valid(misspelt(manifest, at))] == []


def ray_accepts(manifest: Any) -> bool:
    """Whether Ray's cluster launcher takes it. On AWS it looks a machine's resources up where none are given."""
    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    manifest = copy.deepcopy(manifest)
    for kind in manifest.get("available_node_types", {}).values():
        kind.setdefault("resources", {})
    return jsonschema.Draft7Validator(schema).is_valid(manifest)


def test_the_file_for_aws_is_what_rays_launcher_takes_and_a_misspelt_field_is_found() -> None:
    manifest = yaml.safe_load((ROOT / "cluster/aws.yaml").read_text())
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


@pytest.mark.parametrize("name", [n for n, _ in CASES])
def test_pods_are_as_weak_as_they_can_be(name: str) -> None:
    text = (ROOT / "cluster" / name).read_text()
    assert "mode: token" in text
    assert text.count("allowPrivilegeEscalation: false") == text.count("image:")
    assert text.count("runAsNonRoot: true") >= 2
    for image in re.findall(r"image: (\S+)", text):
        assert re.search(r"@sha256:[0-9a-f]{64}$", image), image
    assert not re.search(r"(?i)(secret_?access_?key|password|AKIA)", text)


def test_the_policy_allows_the_run_and_nothing_else() -> None:
    policy = json.loads((ROOT / "cluster/iam-policy.json").read_text())
    for statement in policy["Statement"]:
        actions = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        assert not any("*" in a for a in actions)
        assert statement["Resource"] != "*"


def test_every_other_file_of_the_room_parses() -> None:
    for path in (ROOT / "cluster").iterdir():
        if path.suffix == ".yaml":
            assert yaml.safe_load(path.read_text())
        elif path.suffix == ".json":
            assert json.loads(path.read_text())
