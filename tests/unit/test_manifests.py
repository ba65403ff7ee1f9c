"""The manifests are what KubeRay accepts, by its own schemas made strict about fields that do not exist."""

import copy
import functools
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import check
import jsonschema
import pytest
import yaml
from misspelling import misspelt, paths

from seal_ray import config_file
from seal_ray.fleet.cluster import Node
from seal_ray.fleet.placement import plan_placement

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT.parent / "shared/data/kuberay"
SCHEMA = {"RayCluster": "rayclusters.v1.json", "RayJob": "rayjobs.v1.json"}
OVERLAYS = ["base", "kueue", "autoscaling", "cpu", "tensor-parallel", "standing"]
COMPONENTS = ["fabric-efa", "fabric-infiniband", "logs", "model-claim", "monitoring", "secrets"]
FOR_STANDING = [*COMPONENTS, "gcs-fault-tolerance", "gcs-rocksdb"]
KUBECTL = shutil.which("kubectl")


needs_kubectl = pytest.mark.skipif(not KUBECTL, reason="kubectl, which renders the overlays, is not installed")
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


@functools.cache
def rendered(overlay: str) -> str:
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(ROOT / "cluster/kubernetes" / overlay)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def manifests(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(rendered(overlay)))


def ray_manifest(overlay: str) -> dict[str, Any]:
    (found,) = [m for m in manifests(overlay) if m["kind"] in SCHEMA]
    return found


@needs_kubectl
@needs_schemas
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_manifest_is_valid_by_kuberays_own_schema(overlay: str) -> None:
    manifest = ray_manifest(overlay)
    assert problems(manifest, SCHEMA[manifest["kind"]]) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_operator_refuses_what_is_shipped_and_what_is_not_filled_in_is_told(overlay: str) -> None:
    assert list(check.refused(manifests(overlay))) == []
    missing = list(check.unset(manifests(overlay)))
    assert any("registry.example.com" in m for m in missing) and any("ACCOUNT" in m for m in missing)
    assert not re.search(r"(?i)(secret_?access_?key|AKIA)", rendered(overlay))


@needs_kubectl
def test_one_file_of_settings_fills_everything_in(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "cluster/kubernetes", tmp_path / "kubernetes")
    settings = tmp_path / "kubernetes/base/settings.yaml"
    text = settings.read_text().replace("registry.example.com", "registry.our.org").replace("BUCKET", "ours")
    settings.write_text(text.replace("ACCOUNT", "123456789012").replace("0" * 64, "1" * 64))
    for overlay in OVERLAYS:
        words = [str(KUBECTL), "kustomize", str(tmp_path / "kubernetes" / overlay)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        words = [sys.executable, str(ROOT / "cluster/check.py")]
        checked = subprocess.run(words, input=done.stdout, capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout
    words = [sys.executable, str(ROOT / "cluster/check.py")]
    checked = subprocess.run(words, input=rendered("kueue"), capture_output=True, text=True, check=False)
    assert checked.returncode == 2 and "still has BUCKET" in checked.stdout


def job(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]


def ray(manifest: dict[str, Any]) -> dict[str, Any]:
    return manifest["spec"]["rayClusterSpec"]


def group(manifest: dict[str, Any]) -> dict[str, Any]:
    return ray(manifest)["workerGroupSpecs"][0]


def pod(manifest: dict[str, Any]) -> dict[str, Any]:
    return group(manifest)["template"]["spec"]


def container(manifest: dict[str, Any]) -> dict[str, Any]:
    return pod(manifest)["containers"][0]


# what an operator refuses: where, what is set there (... takes it away), and what is said of it
REFUSED: list[tuple[Callable[[dict[str, Any]], dict[str, Any]], str, Any, str]] = [
    (ray, "networkPolicy", {"mode": "DenyAll"}, "RayClusterNetworkPolicy"),
    (ray, "tlsOptions", {}, "RayClusterMTLS"),
    (ray, "historyServerOptions", {}, "RayClusterHistoryServer"),
    (ray, "enableInTreeAutoscaling", True, "Kueue takes no autoscaling"),
    (ray, "enableInTreeAutoscaling", True, "autoscaler: allowPrivilegeEscalation"),
    (ray, "rayVersion", "2.51.0", "2.52"),
    (ray, "authOptions", ..., "whoever reaches the dashboard"),
    (group, "maxReplicas", ..., "must set minReplicas and maxReplicas"),
    (group, "minReplicas", 5, "do not fit"),
    (group, "idleTimeoutSeconds", 60, "version v2"),
    (group, "groupName", "head", "may be called head"),
    (group, "replicas", 9, "quota"),
    (job, "shutdownAfterJobFinishes", False, "can not be suspended"),
    (job, "shutdownAfterJobFinishes", False, "Kueue wants shutdownAfterJobFinishes"),
    (job, "clusterSelector", {"ray.io/cluster": "x"}, "on a cluster that exists"),
    (job, "submissionMode", "SidecarMode", "submitterPodTemplate"),
    (job, "submissionMode", "InteractiveMode", "backoffLimit"),
    (job, "activeDeadlineSeconds", 0, "positive"),
    (job, "submitterPodTemplate", ..., "submitter: ray-job-submitter: runAsNonRoot"),
    (job, "runtimeEnvYAML", "- a", "no mapping"),
    (lambda m: m["metadata"], "name", "x" * 48, "47 characters"),
    (pod, "hostNetwork", True, "hostNetwork"),
    (pod, "securityContext", {"runAsNonRoot": True}, "seccompProfile"),
    (pod, "securityContext", {"seccompProfile": {"type": "RuntimeDefault"}}, "runAsNonRoot"),
    (pod, "volumes", [{"name": "x", "hostPath": {"path": "/"}}], "volume x"),
    (pod, "serviceAccountName", "seal-ray-head", "could change the cluster"),
    (pod, "automountServiceAccountToken", ..., "could change the cluster"),
    (container, "securityContext", {"allowPrivilegeEscalation": False}, "capabilities.drop"),
    (
        container,
        "securityContext",
        {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}},
        "no capability",
    ),
    (container, "ports", [{"containerPort": 80, "hostPort": 80}], "hostPort"),
]


@needs_kubectl
@pytest.mark.parametrize(("where", "key", "value", "said"), REFUSED, ids=[f"{r[1]}: {r[3]}" for r in REFUSED])
def test_what_an_operator_would_refuse_is_told(
    where: Callable[[dict[str, Any]], dict[str, Any]], key: str, value: Any, said: str
) -> None:
    changed = copy.deepcopy(manifests("kueue"))
    at = where(next(m for m in changed if m["kind"] == "RayJob"))
    if value is ...:
        del at[key]
    else:
        at[key] = value
    assert any(said in reason for reason in check.refused(changed)), list(check.refused(changed))


def with_components(overlay: str, components: list[str], folder: Path) -> list[dict[str, Any]]:
    """What is rendered from a folder of one's own, as the handbook tells to make one."""
    shutil.copytree(ROOT / "cluster/kubernetes", folder / "kubernetes")
    (folder / "kubernetes/ours").mkdir()
    added = ", ".join(f"../components/{c}" for c in components)
    text = f"resources: [../{overlay}]\ncomponents: [{added}]\n"
    (folder / "kubernetes/ours/kustomization.yaml").write_text(text)
    words = [str(KUBECTL), "kustomize", str(folder / "kubernetes/ours")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@needs_kubectl
@needs_schemas
@pytest.mark.parametrize(
    ("overlay", "component"), [("base", c) for c in COMPONENTS] + [("standing", c) for c in FOR_STANDING]
)
def test_a_component_fits_a_job_and_a_cluster_that_stays_and_changes_it(
    overlay: str, component: str, tmp_path: Path
) -> None:
    changed = with_components(overlay, [component], tmp_path)
    assert list(check.refused(changed)) == []
    (manifest,) = [m for m in changed if m["kind"] in SCHEMA]
    assert problems(manifest, SCHEMA[manifest["kind"]]) == []
    assert component == "monitoring" or manifest != ray_manifest(overlay), "it was left out without a word"


@needs_kubectl
def test_both_groups_of_a_tensor_parallel_job_get_what_is_added_before(tmp_path: Path) -> None:
    added = ["fabric-efa", "model-claim", "tensor-parallel"]
    (manifest,) = [m for m in with_components("base", added, tmp_path) if m["kind"] == "RayJob"]
    one, four = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    for each, gpus in ((one, "1"), (four, "4")):
        pod = each["template"]["spec"]
        asked = pod["containers"][0]["resources"]["requests"]
        assert asked["nvidia.com/gpu"] == gpus and asked["vpc.amazonaws.com/efa"] == "1"
        assert {"name": "cache", "persistentVolumeClaim": {"claimName": "models"}} in pod["volumes"]


@needs_kubectl
def test_a_redis_that_keeps_the_heads_state_may_be_reached(tmp_path: Path) -> None:
    changed = with_components("standing", ["gcs-fault-tolerance"], tmp_path)
    (policy,) = [m for m in changed if m["kind"] == "NetworkPolicy"]
    assert {"port": 6379} in [p for rule in policy["spec"]["egress"] for p in rule.get("ports", [])]


def machine(manifest: dict[str, Any], most: bool = False) -> list[Node]:
    """The nodes that Ray will count: the pods of the worker groups, as many as there are at first, or at most."""
    nodes = []
    spec = manifest["spec"]
    for group in spec.get("rayClusterSpec", spec)["workerGroupSpecs"]:
        has = group["template"]["spec"]["containers"][0]["resources"]["requests"]
        cpus, gpus = float(check.amount(has["cpu"])), float(check.amount(has.get("nvidia.com/gpu", 0)))
        memory = check.amount(has["memory"])
        for number in range(group["maxReplicas" if most else "replicas"]):
            name = f"{group['groupName']}-{number}"
            nodes.append(Node(name, name, cpus, gpus, "", memory, cpus, gpus))
    return nodes


@needs_kubectl
@pytest.mark.parametrize(("overlay", "most"), [*((o, False) for o in OVERLAYS[:-1]), ("autoscaling", True)])
def test_what_a_manifest_runs_fits_the_pods_that_it_asks_for(
    overlay: str, most: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the CPU that the driver takes, and as it stands: every phase's least has its place at once."""
    manifest = ray_manifest(overlay)
    command, verb, path, *rest = shlex.split(manifest["spec"]["entrypoint"])
    assert (command, verb) == ("seal-ray", "run")
    overrides = [word for word in rest if word != "--set"]
    if overlay == "tensor-parallel":
        overrides.append("placement.tensor_parallel=4")
    config = config_file.load(str(ROOT / path), overrides)
    nodes = machine(manifest, most)
    first = nodes[0]
    nodes[0] = replace(first, free_cpus=first.free_cpus - manifest["spec"]["entrypointNumCpus"])
    plan = plan_placement(config.placement, nodes, most_trainers=config.policy.global_batch)
    assert plan.device == ("cpu" if overlay == "cpu" else "gpu")
    assert all(plan.fits(phase, nodes) for phase in plan.phases()), [plan.lacks(p, nodes) for p in plan.phases()]


@needs_kubectl
def test_a_job_that_is_too_large_for_its_pods_would_be_found() -> None:
    nodes = machine(ray_manifest("kueue"))
    config = config_file.load(str(ROOT / "jobs/4-nodes-of-8.yaml"), ["placement.tensor_parallel=4"])
    plan = plan_placement(config.placement, nodes)
    assert not all(plan.fits(phase, nodes) for phase in plan.phases())


def test_what_a_pod_may_reach_is_named() -> None:
    policy = yaml.safe_load((ROOT / "cluster/kubernetes/base/network.yaml").read_text())["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    ports = [p["port"] for rule in policy["egress"] for p in rule.get("ports", [])]
    assert {53, 443, 6443} <= set(ports)
    blocks = [to["ipBlock"] for rule in policy["egress"] for to in rule["to"] if "ipBlock" in to]
    assert "169.254.169.254/32" in blocks[0]["except"]  # whoever reaches it is the node to the cloud


@needs_kubectl
@needs_schemas
@pytest.mark.parametrize("overlay", ["kueue", "standing"])
def test_every_field_that_is_misspelt_is_found(overlay: str) -> None:
    manifest = ray_manifest(overlay)
    found = {at[-1]: at for at in paths(manifest) if at[0] == "spec"}  # each field's name once
    assert len(found) > 40
    valid = validator(SCHEMA[manifest["kind"]])
    assert [at for at in found.values() if valid.is_valid(misspelt(manifest, at))] == []
