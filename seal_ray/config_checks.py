"""Settings that are valid one by one and can't mean together what they say.

They are looked at before a run begins and never when one is read or resumed: what was once begun stays readable.
"""

from dataclasses import dataclass

from seal_ray.config import ArcDomain, CodeDomain, Config, KnowledgeDomain, MathDomain, PluginDomain
from seal_ray.errors import ConfigError

LEAST_VOTES = 3
ALWAYS_TRIED = 2  # edits of a task, whatever a model of gain thinks of them
THOUGHT_TOKENS = 128  # an answer that thinks aloud hardly comes to its end in less


@dataclass(frozen=True)
class Contradiction:
    key: str
    message: str
    hint: str
    refused: bool = False  # else it is worth a warning: something is set that has no effect

    def __str__(self) -> str:
        return f"{self.key}: {self.message}; {self.hint}"


def check(config: Config) -> list[Contradiction]:
    """What is worth a warning. Raises where a run would not do what is asked."""
    contradictory = contradictions(config)
    refused = [c for c in contradictory if c.refused]
    if refused:
        raise ConfigError("\n".join(map(str, refused)))
    return contradictory


def contradictions(config: Config) -> list[Contradiction]:
    looks = (_sampling, _answering, _grading, _policy, _devices, _learning, _voting, _objective, _foreseeing, _offered)
    return [one for look in looks for one in look(config)]


def _learning(config: Config) -> list[Contradiction]:
    contradictory = list[Contradiction]()
    if config.evaluation.every and not isinstance(config.domain, PluginDomain) and not config.domain.test:
        message = f"{config.evaluation.every} looks at held-out tasks, and domain.test keeps none"
        contradictory.append(Contradiction("evaluation.every", message, "raise domain.test, or set it to 0", True))
    if config.select.control != "none":
        message = "rewards are shuffled within each task, so this run is a control and its versions learn nothing"
        contradictory.append(Contradiction("select.control", message, "leave it out for a run that is to learn"))
    return contradictory


def _offered(config: Config) -> list[Contradiction]:
    domain, contradictory = config.domain, list[Contradiction]()
    if isinstance(domain, ArcDomain) and domain.validation + domain.test >= 1:
        message = f"{domain.test} and domain.validation {domain.validation} leave no tasks to train on"
        contradictory.append(Contradiction("domain.test", message, "lower one", True))
    if isinstance(domain, ArcDomain):
        key, section = "domain", domain
    elif isinstance(domain, KnowledgeDomain) and domain.directives.offered:
        key, section = "domain.directives", domain.directives
    else:
        return contradictory
    for name, offered, most, limit in (
        ("learning_rates", section.learning_rates, section.max_lr, "max_lr"),
        ("epoch_choices", section.epoch_choices, section.max_epochs, "max_epochs"),
    ):
        if over := [value for value in offered if value > most]:
            message = f"an edit that chooses {over[0]:g} is failed: {key}.{limit} is {most:g}"
            contradictory.append(Contradiction(f"{key}.{name}", message, f"leave it out, or raise {limit}", True))
    return contradictory


def _foreseeing(config: Config) -> list[Contradiction]:
    contradictory = list[Contradiction]()
    if config.grading.reward == "predicted" and not config.grading.gain_runs:
        message = "predicted tries nothing, so this run has nothing to fit a model of gain on"
        hint = "name finished runs of the same model in grading.gain_runs, or take another reward"
        contradictory.append(Contradiction("grading.reward", message, hint, True))
    if config.inner.prune and config.sampling.edits <= ALWAYS_TRIED:
        message = f"{ALWAYS_TRIED} edits of a task are always tried, and sampling.edits is {config.sampling.edits}"
        contradictory.append(Contradiction("inner.prune", message, "sample more, or leave it out"))
    return contradictory


def _objective(config: Config) -> list[Contradiction]:
    domain, objective, contradictory = config.domain, config.inner.objective, list[Contradiction]()
    if objective != "text" and not isinstance(domain, KnowledgeDomain | PluginDomain):
        message = f"domain {domain.name} makes its training texts itself and has nothing to be learned as {objective}"
        contradictory.append(Contradiction("inner.objective", message, "leave it out, or use domain knowledge", True))
    if isinstance(domain, KnowledgeDomain) and domain.directives.offered and objective != "text":
        message = "each edit chooses its own objective where domain.directives.offered is true"
        contradictory.append(
            Contradiction("inner.objective", message, "leave it out, or narrow domain.directives.objectives")
        )
    if config.answering.top_p < 1 and config.answering.temperature == 0:
        message = f"{config.answering.top_p:g} changes nothing where answering.temperature is 0"
        contradictory.append(Contradiction("answering.top_p", message, "raise the temperature, or leave it out"))
    return contradictory


def _devices(config: Config) -> list[Contradiction]:
    adapters = config.policy.mode == "lora" or config.answering.how == "engine"
    if config.model.dtype != "float32" or config.placement.device != "gpu" or not adapters:
        return []
    message = "vLLM computes adapters on a GPU in 16 bits, and model.dtype is float32"
    return [Contradiction("model.dtype", message, "use bfloat16 or auto, or placement.device: cpu", True)]


def _sampling(config: Config) -> list[Contradiction]:
    section, algorithm, contradictory = config.sampling, config.select.algorithm, []
    if section.edits > 1 and section.temperature == 0 and _asks_alike(config):
        message = f"0 writes the same edit in each of the {section.edits} slots of a task"
        contradictory.append(Contradiction("sampling.temperature", message, "raise it, or set sampling.edits: 1", True))
    if section.edits == 1 and algorithm in {"grpo", "pairs"}:
        message = f"{algorithm} compares the edits of a task with each other, and sampling.edits is 1"
        contradictory.append(Contradiction("select.algorithm", message, "use 2 edits or more, or rest_em", True))
    return contradictory


def _asks_alike(config: Config) -> bool:
    """Whether a task's slots are all asked the same. Of another package's domain nobody knows."""
    if isinstance(config.domain, KnowledgeDomain):
        return config.domain.style not in {"mixture", "entities"}
    if isinstance(config.domain, MathDomain | CodeDomain):
        return config.domain.style != "mixture"
    return isinstance(config.domain, ArcDomain)


def _answering(config: Config) -> list[Contradiction]:
    section, contradictory = config.answering, []
    if section.samples > 1 and section.temperature == 0:
        message = f"{section.samples} answers to a question are all the same where answering.temperature is 0"
        contradictory.append(Contradiction("answering.samples", message, "raise the temperature, or ask once"))
    thinks = isinstance(config.domain, KnowledgeDomain | MathDomain) and config.domain.thought
    if thinks and section.max_tokens < THOUGHT_TOKENS:
        message = f"{section.max_tokens} tokens cut off an answer that thinks aloud (domain.thought)"
        contradictory.append(Contradiction("answering.max_tokens", message, f"use {THOUGHT_TOKENS} or more"))
    return contradictory


def _grading(config: Config) -> list[Contradiction]:
    section, contradictory = config.grading, []
    if not isinstance(config.domain, ArcDomain | MathDomain | CodeDomain):
        return []
    if section.grader in {"judge", "cascade"}:
        what = {"arc": "a grid", "math": "an answer", "code": "a program"}[config.domain.name]
        message = f"{section.grader} is never asked: {what} is right or wrong by itself"
        contradictory.append(
            Contradiction("grading.grader", message, f"use exact with domain {config.domain.name}", True)
        )
    if section.reward == "rubric" and isinstance(config.domain, ArcDomain):
        message = "rubric rates study notes, and the edits of domain arc are directives"
        contradictory.append(Contradiction("grading.reward", message, "use accuracy, likelihood or blend"))
    return contradictory


# where the version's own answers can't elect what is right, and what does instead
NO_VOTES = {
    "knowledge": "most answers about a passage that was not learned yet are made up, and its questions have answers",
    "documents": "most answers about a document that was not learned yet are made up; `seal-ray probe` lets the "
    "version vote with the passage at hand",
    "arc": "the answer to a puzzle is a vote over its views already",
    "code": "two programs that do the same are not the same text, and a task's tests say what is right",
}


def _voting(config: Config) -> list[Contradiction]:
    contradictory, by_vote = list[Contradiction](), config.grading.reward == "vote"
    why = NO_VOTES.get(config.domain.name)
    if by_vote and why:
        message = f"vote is nothing for domain {config.domain.name}: {why}"
        contradictory.append(Contradiction("grading.reward", message, "use accuracy, likelihood or blend", True))
    without_gold = isinstance(config.domain, MathDomain) and config.domain.gold == "majority"
    if not without_gold and not by_vote:
        return contradictory
    key = "grading.reward" if by_vote else "domain.gold"
    if config.answering.samples < LEAST_VOTES or config.answering.temperature == 0:
        message = f"a majority needs {LEAST_VOTES} samples of an answer or more, drawn at a temperature over 0"
        hint = f"set answering.samples: {LEAST_VOTES} and answering.temperature: 0.7, or domain.gold: data"
        contradictory.append(Contradiction(key, message, hint, True))
    if without_gold and config.grading.reward not in {"accuracy", "vote"}:
        message = "without answers in the data nothing has a likelihood"
        hint = "use vote or accuracy with domain.gold: majority"
        contradictory.append(Contradiction("grading.reward", message, hint, True))
    if without_gold:
        contradictory += _measured_by_itself(config)
    return contradictory


def _measured_by_itself(config: Config) -> list[Contradiction]:
    """What compares versions, where a version's own majority is all that could be right."""
    contradictory = list[Contradiction]()
    for key, value, without in (
        ("gate.mode", config.gate.mode, "off"),
        ("evaluation.every", config.evaluation.every, 0),
    ):
        if value != without:
            message = (
                f"{value} compares versions, and by domain.gold: majority the one that always says the same is best"
            )
            hint = f"set it to {without}, or domain.gold: data where the data has answers (vote does not look at them)"
            contradictory.append(Contradiction(key, message, hint, True))
    return contradictory


def _policy(config: Config) -> list[Contradiction]:
    section, contradictory = config.policy, list[Contradiction]()
    if section.mode != "full":
        if any(target.rpartition(".")[2] == "lm_head" for target in section.targets):
            message = "candidates are trained with the base's own head, and would answer with the version's"
            hint = "leave lm_head out; inner.targets may have it"
            contradictory.append(Contradiction("policy.targets", message, hint, True))
        return contradictory
    if section.fresh:
        message = "true begins a new adapter each round, and policy.mode: full has none"
        contradictory.append(Contradiction("policy.fresh", message, "use mode: lora, or leave it out", True))
    for key in ("rank", "alpha", "targets"):
        if key in section.model_fields_set and getattr(section, key) != type(section).model_fields[key].default:
            message = "policy.mode: full trains all weights and has no adapter, so this has no effect"
            contradictory.append(Contradiction(f"policy.{key}", message, "leave it out, or use mode: lora"))
    return contradictory
