"""What libraries say of themselves (progress of shards, de-quantising, addresses that Ray tried) is for `--debug`."""

import os
import warnings

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TQDM_DISABLE": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "RAY_BACKEND_LOG_LEVEL": "error",
    "PYTHONWARNINGS": "ignore",
}


def hush() -> None:
    """For this process and those that it starts; before any library is imported. What is set already stays."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    if os.environ["PYTHONWARNINGS"] == "ignore":
        warnings.simplefilter("ignore")
