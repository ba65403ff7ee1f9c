"""What the files of an adapter are called, in PEFT's format."""

ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
