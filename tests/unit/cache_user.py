"""A process that takes an entry from a cache: ROOT LIMIT_BYTES KEY SIZE HOW; HOW is quick, tell, hang, hold or late."""

import os
import sys
import time
from pathlib import Path

from seal_ray.models.cache import GIB, ModelCache


def main(root: str, limit: str, key: str, size: str, how: str) -> None:
    def make(folder: Path) -> None:
        with open(Path(root) / "made", "a") as log:
            log.write(f"{key}\n")
        (folder / "half").write_bytes(b"x")
        if how == "hang":
            print("making", flush=True)
            time.sleep(600)
        if how == "late":
            print("making", flush=True)
            time.sleep(1)
        time.sleep(0.2)  # long enough for the others to come
        (folder / "half").unlink()
        (folder / "weights").write_bytes(b"x" * int(size))

    if how == "tell":
        print("asking", flush=True)
    folder = ModelCache(root, int(limit) / GIB).take(key, make)
    print(sorted(os.listdir(folder)), flush=True)
    if how in {"hold", "late"}:
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
