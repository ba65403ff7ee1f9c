"""Handing a run to a cluster: what `ray job submit` does, with the checks that save a failed start."""

import json
import shlex
from pathlib import Path
from typing import Any

from seal_ray.config import Config
from seal_ray.errors import ConfigError, InfraError
from seal_ray.fleet.cluster import TOKEN, Node
from seal_ray.fleet.placement import plan_placement
from seal_ray.storage.flags import as_typed
from seal_ray.storage.store import is_local
from seal_ray.text import first_line

# left out of what is sent to the cluster: large, private, or made anew there
LEFT_OUT = [".git", ".venv", "runs", "mlruns", ".cache", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"]
LEFT_OUT += ["*.safetensors", ".hg", ".svn", "node_modules"]
# keys and credentials: whoever may use the cluster can read what is sent, and it stays there
SECRETS = [
    ".env",
    ".env.*",
    "*.env",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.jks",
    "*.kdbx",
    "*.keytab",
    "id_rsa*",
    "id_dsa*",
]
SECRETS += ["id_ecdsa*", "id_ed25519*", ".ssh", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".gnupg", ".ray"]
SECRETS += [
    ".netrc",
    ".pgpass",
    ".pypirc",
    ".npmrc",
    ".git-credentials",
    ".huggingface",
    ".boto",
    ".s3cfg",
    "kubeconfig*",
]
SECRETS += ["credentials", "credentials.*", "*credentials.json", "secrets", "secrets.*"]
SECRETS += ["service-account*.json", "service_account*.json", "kaggle.json", ".kaggle", ".config", ".vault-token"]
SECRETS += ["token", "*.token", "auth_token", "terraform.tfstate*", "*.tfvars"]
PACKAGE = "seal_ray"
# the driver that the image installs would import its own package, and the workers the one that was sent
FROM_SOURCE = ["python", "-c", "from seal_ray.cli import main; main()"]


def submit(
    config: Config,
    path: Path,
    overrides: list[str],
    *,
    address: str,
    working_dir: str,
    with_code: bool = False,
    driver_cpus: float = 0,
) -> dict[str, str]:
    """Submit a run as a job. What comes back says how to follow and how to stop it.

    A checkout's own `seal_ray` stays here unless `with_code` asks for it: the image's is what was tested with it.
    """
    folder = _folder_to_send(config, path, working_dir)
    client = _job_server(address)
    shadows = (folder / PACKAGE / "__init__.py").exists()
    command = FROM_SOURCE if with_code and shadows else ["seal-ray"]
    job = _taken(
        client,
        address,
        entrypoint=shlex.join([*command, *_words(config, str(path.resolve().relative_to(folder)), overrides)]),
        runtime_env={
            "working_dir": str(folder),
            "excludes": LEFT_OUT + SECRETS + ([] if with_code else [f"/{PACKAGE}"]),
            # time to close segments and hand the run over before the kill
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(int(config.storage.stop_within + 3))},
        },
        metadata={"seal_ray_run": config.run.uri},
        entrypoint_num_cpus=driver_cpus or None,
    )
    said = {}
    if shadows:
        said["code"] = f"{folder / PACKAGE} was " + (
            "sent: it runs" if with_code else "not sent: the image's runs (--code)"
        )
    if missing := lacking(config, nodes_of(client)):
        said["room"] = f"missing: {missing}; the run asks for it and waits {config.placement.deadline:g} s"
    return said | {
        "job": job,
        "follow": f"ray job logs --follow --address {address} {job}",
        "status": f"seal-ray status {as_typed(config.run.uri, config.storage)}",
        "stop": f"ray job stop --address {address} {job}",
    }


def _folder_to_send(config: Config, path: Path, working_dir: str) -> Path:
    """The folder that the cluster gets; refused where the run could not be found there."""
    if is_local(config.run.uri) and not config.storage.shared:
        raise ConfigError(
            f"run.uri: {config.run.uri} is a folder of one machine, and a cluster has several",
            hint="use s3://… or another store, or set storage.shared: true for a folder that every node sees",
        )
    if is_local(config.run.uri) and not Path(config.run.uri.rpartition("://")[2]).is_absolute():
        raise ConfigError(
            f"run.uri: {config.run.uri} would stand in the copy of this folder that the job gets, and go with it",
            hint="give the whole path of a folder that every node sees, or a store",
        )
    folder = Path(working_dir).resolve()
    if not path.resolve().is_relative_to(folder):
        raise ConfigError(f"{path} is not under {working_dir}, the folder that is sent", hint="see --working-dir")
    return folder


def _job_server(address: str) -> Any:
    """The cluster's job server, which must run our version of Ray."""
    import ray
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    try:
        client = JobSubmissionClient(address)
        version = client._do_request("GET", "/api/version").json().get("ray_version", "")
    except AuthenticationError as error:
        reason = first_line(error).split(". ")[0][:200]
        raise InfraError(f"the cluster at {address} does not let us in ({reason})", hint=TOKEN) from None
    except (ConnectionError, RuntimeError, ValueError, AttributeError) as error:  # also what answers and is none
        raise InfraError(
            f"no Ray job server answers at {address} ({first_line(error, 200)})",
            hint="start a cluster, or check the address and the port (8265)",
        ) from None
    if version and version != ray.__version__:
        raise InfraError(
            f"the cluster at {address} runs Ray {version}, here is {ray.__version__}",
            hint="use an image with the same version, or install that version here",
        )
    return client


def _taken(client: Any, address: str, **job: Any) -> str:
    """The job's name, once the cluster has the folder and the job."""
    try:
        return client.submit_job(**job)
    except (OSError, RuntimeError, ValueError) as error:  # what the server raised stands at the end, as text
        lines = [line.strip() for line in str(error).splitlines() if len(line.strip()) > 1]
        raise InfraError(
            f"the cluster at {address} did not take the job ({lines[-1][:300] if lines else error})",
            hint="if it is about size, keep data and weights out of what is sent (--working-dir, .rayignore); if the "
            "connection was lost, see `ray job list` before you submit again",
        ) from None


def _words(config: Config, path: str, overrides: list[str]) -> list[str]:
    """What the command is given on the cluster."""
    words = ["run", path]
    for override in overrides:
        words += ["--set", override]
    if config.placement.address == "local":
        words += ["--set", "placement.address=auto"]  # a run that is handed to a cluster runs on it
    return words


def nodes_of(client: Any) -> list[Node]:
    """The cluster's nodes as its job server knows them; none where it doesn't say: the job is there already."""
    try:
        reply = client._do_request("GET", "/api/v0/nodes?limit=10000")
        told = reply.json()["data"]["result"]["result"] if reply.status_code == 200 else []
    except (OSError, json.JSONDecodeError, KeyError, TypeError):  # an OSError is what requests raises
        return []
    nodes = []
    for node in told:
        has = node.get("resources_total") or {}
        cpus, gpus = float(has.get("CPU", 0)), float(has.get("GPU", 0))
        kind = next((key.partition(":")[2] for key in has if key.startswith("accelerator_type:")), "")
        if node.get("state") == "ALIVE" and (cpus or gpus):  # a head is often kept free of actors
            nodes.append(Node(node["node_id"], node["node_id"], cpus, gpus, kind, 0, cpus, gpus))
    return nodes


def lacking(config: Config, nodes: list[Node]) -> str:
    """What the least of the run's phases needs and the cluster does not have, whoever holds what is there."""
    if not nodes:
        return ""
    plan = plan_placement(config.placement, nodes, most_trainers=config.policy.global_batch)
    return "; ".join(plan.lacks(phase, nodes) for phase in plan.phases() if not plan.fits(phase, nodes))
