"""What lies between a model's products, each as one operation: plain torch anywhere, one kernel on a GPU.

The kernels (`triton_*.py`) have never run on a GPU: they were compiled for an H100, interpreted on a CPU and held to
the plain forms there. They are held to them again on the device before they are used (`canary.py`).
"""
