"""What lies between a model's products, each as one operation: plain torch anywhere, and kernels of a device.

Those of a GPU (`triton_*.py`) ran on an H200 and agree with the plain forms there (`jobs/gpu_check.py`); without a GPU
they are compiled for an H100 and interpreted on a CPU. Those of a CPU, in float32, are one file of C++
(`cpu_block.cpp`) that is compiled where it runs.
Both are held to the plain forms again on their device before they are used (`canary.py`).
"""
