"""What lies between a model's products, each as one operation: plain torch anywhere, and kernels of a device.

Those of a GPU (`triton_*.py`) have never run on one: they were compiled for an H100, interpreted on a CPU and held to
the plain forms there. Those of a CPU, in float32, are one file of C++ (`cpu_block.cpp`) that is compiled where it runs.
Both are held to the plain forms again on their device before they are used (`canary.py`).
"""
