"""What deletions of tasks left behind: which objects were rewritten, and what they became."""

from seal_ray.records import Json
from seal_ray.storage import codec
from seal_ray.storage.codec import Damaged
from seal_ray.storage.store import Store


def tombstones(store: Store) -> list[dict[str, Json]]:
    """Every one that is whole: the task's digest, and path, size and digest of every object that was rewritten."""
    whole = []
    for entry in store.list("tombstones/"):
        try:
            whole.append(codec.unpack_part(store.read(entry.path), entry.path, store.uri(entry.path))[0])
        except Damaged:
            continue  # `verify` names it; what it vouched for is named as well
    return whole
