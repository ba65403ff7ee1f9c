"""A bill of materials (CycloneDX 1.6) of an image's Python packages, from its locks: `python docker/sbom.py gpu`."""

import hashlib
import json
import sys
import uuid
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = {"cpu": ("build", "cpu"), "gpu": ("build", "gpu")}  # the locks that an image is installed from


def bill(image: str) -> dict[str, Any]:
    """The same lock gives the same bill, its serial number too."""
    texts = [(HERE / f"requirements-{name}.lock").read_text() for name in NAMES[image]]
    lines = sorted({line for text in texts for line in text.splitlines() if line and not line.startswith("#")})
    digest = hashlib.sha256("\n".join(lines).encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": f"seal-ray-{image}"}},
        "components": [_component(line) for line in lines],
    }


def _component(line: str) -> dict[str, Any]:
    """Of `name==version --hash=sha256:…`."""
    package, _, digest = line.partition(" --hash=sha256:")
    name, _, version = package.partition("==")
    return {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{version}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


if __name__ == "__main__":
    if sys.argv[1:] not in ([name] for name in NAMES):
        sys.exit(f"usage: python docker/sbom.py {'|'.join(NAMES)}")
    json.dump(bill(sys.argv[1]), sys.stdout, indent=1)
    print()
