"""The manifests are what KubeRay accepts, by its own schemas made strict about fields that do not exist."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
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


def problems(manifest: Any, schema: str) -> list[str]:
    top = strict(json.loads((SCHEMAS / schema).read_text()))
    top["properties"]["metadata"] = {"type": "object"}
    top["properties"]["status"] = {}
    found = jsonschema.Draft202012Validator(top).iter_errors(manifest)
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
