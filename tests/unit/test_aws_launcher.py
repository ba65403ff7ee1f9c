"""The file for AWS in the hands of Ray's own launcher, on an EC2 that moto plays: it calls what the policies allow."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.client import BaseClient
from moto import mock_aws
from ray.autoscaler._private.aws.config import bootstrap_aws
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.tags import TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

AWS = Path(__file__).parents[2] / "cluster/aws"


def allowed(name: str) -> set[str]:
    """The actions of a policy."""
    actions: set[str] = set()
    for statement in json.loads((AWS / f"{name}-policy.json").read_text())["Statement"]:
        some = statement["Action"]
        actions |= set(some if isinstance(some, list) else [some])
    return actions


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Every call of the cloud as the action that it needs, with a cloud of our own behind it."""
    monkeypatch.setenv("HOME", str(tmp_path))  # the launcher keeps its key there
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    calls: list[str] = []
    with mock_aws():
        real = BaseClient._make_api_call  # type: ignore[attr-defined]

        def note(self: Any, operation: str, arguments: dict[str, Any]) -> Any:
            calls.append(f"{self.meta.service_model.service_name}:{operation}")
            return real(self, operation, arguments)

        monkeypatch.setattr(BaseClient, "_make_api_call", note)
        yield calls


def filled_in() -> dict[str, Any]:
    """The file, with an image and a group that this cloud has."""
    import boto3

    ec2 = boto3.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    for name in ("seal-ray-head", "seal-ray-worker"):
        boto3.client("iam").create_instance_profile(InstanceProfileName=name)
    text = (AWS / "ray-up.yaml").read_text()
    return yaml.safe_load(text.replace("ami-" + "0" * 17, image).replace("sg-" + "0" * 17, group))


def start(provider: AWSNodeProvider, kind: str, name: str, node: dict[str, Any]) -> list[str]:
    provider.create_node(node, {TAG_RAY_NODE_KIND: kind, TAG_RAY_USER_NODE_TYPE: name}, 1)
    ids = provider.non_terminated_nodes({TAG_RAY_NODE_KIND: kind})
    provider.set_node_tags(ids[0], {"ray-node-status": "up-to-date"})
    return ids


def test_the_launcher_takes_the_file_and_both_sides_need_what_their_policies_allow(called: list[str]) -> None:
    file = filled_in()
    called.clear()
    wanted = AWSNodeProvider.fillout_available_node_types_resources(prepare_config(file))
    validate_config(wanted)
    ready = bootstrap_aws(wanted)
    types = ready["available_node_types"]
    assert types["gpu"]["resources"]["GPU"] == 1 and types["head"]["resources"] == {"CPU": 0}
    assert (
        types["head"]["node_config"]["SecurityGroupIds"]
        == file["available_node_types"]["head"]["node_config"]["SecurityGroupIds"]
    ), "Ray has made a group of its own"
    provider = AWSNodeProvider(ready["provider"], ready["cluster_name"])
    head = start(provider, "head", "head", types["head"]["node_config"])
    assert set(called) - allowed("launcher") == set()

    called.clear()
    workers = start(provider, "worker", "gpu", types["gpu"]["node_config"])
    provider.terminate_nodes(workers)
    assert provider.non_terminated_nodes({}) == head
    assert {"ec2:RunInstances", "ec2:TerminateInstances"} <= set(called) <= allowed("head")
