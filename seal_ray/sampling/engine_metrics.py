"""vLLM's own figures (tokens, queue, cache, time to the first token) on the endpoint where a node of Ray shows ours."""

from typing import Any

from seal_ray.redaction import logger

log = logger(__name__)


def tell_ray(llm: Any) -> None:
    """Let an engine that keeps statistics tell them through Ray instead of a server that it does not have.

    Figures are a comfort: where this version of vLLM can't, the engine works all the same.
    """
    try:
        from ray.util import metrics
        from vllm.v1.metrics import ray_wrappers
        from vllm.v1.metrics.loggers import StatLoggerManager

        if ray_wrappers.ray_metrics is None:  # it looks for Ray Serve beside them, which needs packages of its own
            ray_wrappers.ray_metrics = metrics
        engine = llm.llm_engine
        engine.logger_manager = StatLoggerManager(
            engine.vllm_config, custom_stat_loggers=[ray_wrappers.RayPrometheusStatLogger], enable_default_loggers=False
        )
        engine.logger_manager.log_engine_initialized()
    except Exception as error:
        log.warning("vLLM's metrics are not told: %s: %s", type(error).__name__, error)
