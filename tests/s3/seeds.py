"""Where attacks draw from: a seed of their own, and one for all of them that can be chosen, so that they come anew.

SEAL_RAY_ATTACK_SEED=7 pytest tests/attack tests/chaos
"""

import os
import random

SEED = os.environ.get("SEAL_RAY_ATTACK_SEED", "")


def drawing(seed: str | int) -> random.Random:
    return random.Random(f"{seed} {SEED}" if SEED else seed)
