"""Handing a run to a cluster: what `ray job submit` does, with the checks that save a failed start."""

import shlex
from pathlib import Path

from seal_ray.config import Config
from seal_ray.errors import ConfigError, InfraError
from seal_ray.fleet.cluster import TOKEN
from seal_ray.storage.store import is_local

# left out of what is sent to the cluster: large, private, or made anew there
LEFT_OUT = [".git", ".venv", "runs", "mlruns", ".cache", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis"]
LEFT_OUT += [".env", "*.safetensors"]


def submit(config: Config, path: Path, overrides: list[str], *, address: str, working_dir: str) -> dict[str, str]:
    """Submit a run as a job. What comes back says how to follow and how to stop it."""
    import ray
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    if is_local(config.run.uri) and not config.storage.shared:
        raise ConfigError(
            f"run.uri: {config.run.uri} is a folder of one machine, and a cluster has several",
            hint="use s3://… or another store, or set storage.shared: true for a folder that every node sees",
        )
    folder = Path(working_dir).resolve()
    if not path.resolve().is_relative_to(folder):
        raise ConfigError(f"{path} is not under {working_dir}, the folder that is sent", hint="see --working-dir")
    try:
        client = JobSubmissionClient(address)
        cluster = client._do_request("GET", "/api/version").json().get("ray_version", "")
    except AuthenticationError as error:
        reason = str(error).splitlines()[0].split(". ")[0][:200]
        raise InfraError(f"the cluster at {address} does not let us in ({reason})", hint=TOKEN) from None
    except (ConnectionError, RuntimeError) as error:
        raise InfraError(
            f"no Ray job server answers at {address} ({str(error).splitlines()[0][:200]})",
            hint="start a cluster, or check the address and the port (8265)",
        ) from None
    if cluster and cluster != ray.__version__:
        raise InfraError(
            f"the cluster at {address} runs Ray {cluster}, here is {ray.__version__}",
            hint="use an image with the same version, or install that version here",
        )
    words = ["seal-ray", "run", str(path.resolve().relative_to(folder))]
    for override in overrides:
        words += ["--set", override]
    if config.placement.address == "local":
        words += ["--set", "placement.address=auto"]  # a run that is handed to a cluster runs on it
    job = client.submit_job(
        entrypoint=shlex.join(words),
        runtime_env={
            "working_dir": str(folder),
            "excludes": LEFT_OUT,
            # time to close segments and hand the run over before the kill
            "env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(int(config.storage.stop_within + 3))},
        },
        metadata={"seal_ray_run": config.run.uri},
    )
    return {
        "job": job,
        "follow": f"ray job logs --follow --address {address} {job}",
        "status": f"seal-ray status {config.run.uri}",
        "stop": f"ray job stop --address {address} {job}",
    }
