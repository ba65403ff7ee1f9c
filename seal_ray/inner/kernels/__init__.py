"""What lies between a model's products, each as one operation: plain torch anywhere, one kernel on a GPU.

The kernels (`triton_*.py`) have never run on a GPU: they were held to the plain forms on a CPU, interpreted, and
are held to them again on the device before they are used (`canary.py`).
"""
