"""Would a cluster take these manifests? What KubeRay, Kueue or Pod Security would refuse, and what is unset.

    kubectl kustomize cluster/kubernetes/kueue | python cluster/check.py
    python cluster/check.py < cluster/aws/ray-up.yaml       (the launchers' files and policies: what is unset)

The rules are those of KubeRay's validation (utils/validation.go, gates at their defaults), Kueue's webhook for RayJobs
and the Pod Security Standard `restricted`, as far as they bear on Ray. It needs PyYAML and no cluster; whether images,
roles and buckets exist is for `seal-ray doctor` on the cluster.
"""

import re
import sys
from collections.abc import Iterator
from typing import Any

import yaml

GATES = {"networkPolicy": "RayClusterNetworkPolicy", "tlsOptions": "RayClusterMTLS"}
GATES |= {"historyServerOptions": "RayClusterHistoryServer"}  # alpha, off by default
QUEUE = "kueue.x-k8s.io/queue-name"
LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
UNSET = ("registry.example.com", "@sha256:" + "0" * 64, "BUCKET", ":ACCOUNT:", "set in settings.yaml")
UNSET += ("/TEAM", ":REGION:", ":key/KEY", "ami-" + "0" * 17, "sg-" + "0" * 17)
NAME_LIMITS = {"RayJob": 47, "RayCluster": 63}
Manifest = dict[str, Any]


def refused(manifests: list[Manifest]) -> Iterator[str]:
    """Every reason why an operator or the API server would not take them."""
    ours = [m for m in manifests if "kind" in m]  # what is none has no operator to refuse it
    for manifest in ours:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        for reason in _reasons(kind, manifest):
            yield f"{kind} {name}: {reason}"
    yield from _unheld(ours)


def _reasons(kind: str, manifest: Manifest) -> Iterator[str]:
    if kind not in NAME_LIMITS:
        return
    name = manifest["metadata"]["name"]
    if not LABEL.fullmatch(name) or len(name) > NAME_LIMITS[kind]:
        yield f"the name must be a DNS label of at most {NAME_LIMITS[kind]} characters"
    spec = manifest["spec"]
    cluster = spec["rayClusterSpec"] if kind == "RayJob" else spec
    yield from _kuberay_cluster(cluster)
    if kind == "RayJob":
        yield from _kuberay_job(spec)
    if QUEUE in manifest["metadata"].get("labels", {}):
        yield from _kueue(kind, spec, cluster)
    for where, pod in pods(kind, spec, cluster):
        yield from (f"{where}: {reason}" for reason in restricted(pod))
    yield from _accounts(cluster)


def pods(kind: str, spec: Manifest, cluster: Manifest) -> Iterator[tuple[str, Manifest]]:
    """Every pod that will exist, with the containers that KubeRay adds."""
    head = cluster["headGroupSpec"]["template"]["spec"]
    if cluster.get("enableInTreeAutoscaling"):
        added = {"name": "autoscaler", **cluster.get("autoscalerOptions", {})}
        head = head | {"containers": [*head["containers"], added]}
    yield "head", head
    for group in cluster.get("workerGroupSpecs", []):
        yield f"group {group['groupName']}", group["template"]["spec"]
    if kind == "RayJob" and spec.get("submissionMode", "K8sJobMode") == "K8sJobMode":
        template = spec.get("submitterPodTemplate")
        yield "submitter", template["spec"] if template else {"containers": [{"name": "ray-job-submitter"}]}


# KubeRay


def _kuberay_cluster(cluster: Manifest) -> Iterator[str]:
    for name, gate in GATES.items():
        if name in cluster:
            yield f"{name} requires the gate {gate}, which is off by default"
    scales = cluster.get("enableInTreeAutoscaling", False)
    version = cluster.get("autoscalerOptions", {}).get("version")
    for group in cluster.get("workerGroupSpecs", []):
        least, most = group.get("minReplicas"), group.get("maxReplicas")
        if not scales and (least is None or most is None):
            yield f"group {group['groupName']} must set minReplicas and maxReplicas where nothing scales it"
        if least is not None and most is not None and not 0 <= least <= most:
            yield f"group {group['groupName']}: minReplicas {least} and maxReplicas {most} do not fit"
        if "idleTimeoutSeconds" in group and version != "v2":
            yield f"group {group['groupName']}: idleTimeoutSeconds needs autoscalerOptions.version v2"
        if group.get("suspend") and scales:
            yield f"group {group['groupName']} can not be suspended with autoscaling"
    for group in [cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", [])]:
        own = {"num-cpus", "num-gpus", "memory", "resources"} & group.get("rayStartParams", {}).keys()
        if own and group.get("resources"):
            yield "resources stand in rayStartParams and in resources; use one"
        if scales and version == "v2" and group["template"]["spec"].get("restartPolicy", "Never") != "Never":
            yield "restartPolicy must be Never with autoscaler v2"
    if cluster.get("authOptions", {}).get("mode") == "token":
        numbers = [int(n) for n in re.findall(r"\d+", cluster.get("rayVersion", ""))[:2]]
        if numbers < [2, 52]:
            yield "authOptions.mode token needs rayVersion 2.52 or later"
    else:
        yield "without authOptions.mode token whoever reaches the dashboard can run code"
    if "gcsFaultToleranceOptions" in cluster:
        env = {e["name"] for e in cluster["headGroupSpec"]["template"]["spec"]["containers"][0].get("env", [])}
        if env & {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME"}:
            yield "Redis is named in gcsFaultToleranceOptions and in the head's environment; use the former"


def _kuberay_job(spec: Manifest) -> Iterator[str]:
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield "a job that does not shut its cluster down can not be suspended"
    if spec.get("backoffLimit", 0) > 0 and spec.get("submissionMode") == "InteractiveMode":
        yield "backoffLimit does not go with InteractiveMode"
    if spec.get("submissionMode") == "SidecarMode" and "submitterPodTemplate" in spec:
        yield "SidecarMode takes no submitterPodTemplate"
    for name in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(name, 1) <= 0:
            yield f"{name} must be positive"
    if spec.get("ttlSecondsAfterFinished", 0) > 0 and not spec.get("shutdownAfterJobFinishes"):
        yield "ttlSecondsAfterFinished has no meaning without shutdownAfterJobFinishes"
    if not isinstance(yaml.safe_load(spec.get("runtimeEnvYAML", "{}")), dict):
        yield "runtimeEnvYAML is no mapping"


# Kueue


def _kueue(kind: str, spec: Manifest, cluster: Manifest) -> Iterator[str]:
    groups = cluster.get("workerGroupSpecs", [])
    if cluster.get("enableInTreeAutoscaling"):
        yield "Kueue takes no autoscaling without its gate ElasticJobsViaWorkloadSlices"
    if kind == "RayJob" and not spec.get("shutdownAfterJobFinishes"):
        yield "Kueue wants shutdownAfterJobFinishes"
    if spec.get("clusterSelector"):
        yield "Kueue takes no job on a cluster that exists"
    if len(groups) > 7:
        yield f"Kueue takes at most 7 worker groups, not {len(groups)}"
    if any(g["groupName"] == "head" for g in groups):
        yield "no worker group may be called head"


# Pod Security, `restricted`


def restricted(pod: Manifest) -> Iterator[str]:
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield f"{name} is refused"
    for volume in pod.get("volumes", []):
        if not (volume.keys() - {"name"}) <= VOLUMES:
            yield f"volume {volume['name']} is of a kind that is refused"
    whole = pod.get("securityContext", {})
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        own = container.get("securityContext", {})
        capabilities = own.get("capabilities", {})
        checks = {
            "allowPrivilegeEscalation must be false": own.get("allowPrivilegeEscalation") is False,
            "privileged is refused": not own.get("privileged"),
            "capabilities.drop must have ALL": "ALL" in capabilities.get("drop", []),
            "no capability but NET_BIND_SERVICE may be added": set(capabilities.get("add", [])) <= {"NET_BIND_SERVICE"},
            "runAsNonRoot must be true": own.get("runAsNonRoot", whole.get("runAsNonRoot")) is True,
            "runAsUser must not be 0": own.get("runAsUser", whole.get("runAsUser", 1)) != 0,
            "seccompProfile.type must be RuntimeDefault or Localhost": (
                own.get("seccompProfile", whole.get("seccompProfile", {})).get("type")
                in {"RuntimeDefault", "Localhost"}
            ),
            "hostPort is refused": not any(p.get("hostPort") for p in container.get("ports", [])),
            "procMount must be Default": own.get("procMount", "Default") == "Default",
        }
        yield from (f"{container['name']}: {text}" for text, holds in checks.items() if not holds)


# what belongs together


def _accounts(cluster: Manifest) -> Iterator[str]:
    """KubeRay binds the autoscaler's rights to the head's account; no worker may have them."""
    head = cluster["headGroupSpec"]["template"]["spec"].get("serviceAccountName")
    for group in cluster.get("workerGroupSpecs", []):
        pod = group["template"]["spec"]
        if pod.get("serviceAccountName") == head or pod.get("automountServiceAccountToken") is not False:
            yield f"group {group['groupName']} could change the cluster: give it an account of its own and no token"


def _unheld(manifests: list[Manifest]) -> Iterator[str]:
    """A queue that covers less than its job asks for admits it never."""
    queues = [m for m in manifests if m["kind"] == "ClusterQueue"]
    if not queues:
        return
    flavors = [f for m in queues for g in m["spec"]["resourceGroups"] for f in g["flavors"]]
    quota = {r["name"]: amount(r["nominalQuota"]) for f in flavors for r in f["resources"]}
    for job in (m for m in manifests if m["kind"] == "RayJob"):
        for name, wanted in asked(job).items():
            if name not in quota:
                yield f"ClusterQueue {queues[0]['metadata']['name']} does not cover {name}, which the job asks for"
            elif wanted > quota[name]:
                yield f"the job asks for {wanted:g} of {name}; the queue's quota is {quota[name]:g}"


def asked(job: Manifest) -> dict[str, float]:
    """What all pods of a job request together."""
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    count = {f"group {g['groupName']}": g.get("replicas", 1) for g in cluster.get("workerGroupSpecs", [])}
    total: dict[str, float] = {}
    for where, pod in pods("RayJob", spec, cluster):
        for container in pod["containers"]:
            for name, value in container.get("resources", {}).get("requests", {}).items():
                total[name] = total.get(name, 0) + amount(value) * count.get(where, 1)
    return total


def amount(text: str | float) -> float:
    """A Kubernetes quantity as a number."""
    match = re.fullmatch(r"([0-9.]+)(m|[KMGTP]i?)?", str(text))
    if not match:
        raise ValueError(f"{text!r} is not a quantity such as 500m, 4 or 16Gi")
    unit = match[2] or ""
    power = "KMGTP".find(unit[:1]) + 1 if unit and unit != "m" else 0
    return float(match[1]) * (0.001 if unit == "m" else (1024 if unit.endswith("i") else 1000) ** power)


def unset(manifests: list[Manifest]) -> Iterator[str]:
    """What stands as it was shipped, and images without a digest."""
    for manifest in manifests:
        name = f"{manifest['kind']} {manifest['metadata']['name']}" if "kind" in manifest else "file"
        for at, value in _texts(manifest):
            for part in UNSET:
                if part in value:
                    yield f"{name}: {at} still has {part.lstrip('@:/')[:24]}"
            if at.endswith((".image", ".image_id")) and not DIGEST.search(value):
                yield f"{name}: {at}: {value} has no digest (@sha256:…)"


def _texts(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, below in value.items():
            yield from _texts(below, f"{at}.{key}")
    elif isinstance(value, list):
        for number, below in enumerate(value):
            yield from _texts(below, f"{at}[{number}]")
    elif isinstance(value, str):
        yield at, value


def main() -> None:
    manifests = [m for m in yaml.safe_load_all(sys.stdin) if m]
    if not manifests:
        sys.exit("nothing came in; usage: kubectl kustomize cluster/kubernetes/kueue | python cluster/check.py")
    found = [*refused(manifests), *dict.fromkeys(unset(manifests))]
    for line in found:
        print(line)
    print(f"{len(manifests)} manifests, {len(found)} problems")
    sys.exit(2 if found else 0)


if __name__ == "__main__":
    main()
