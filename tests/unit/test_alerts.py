"""The alerts fire when they should and only then, by Prometheus's own tool on series that are made up.

The tool, promtool, comes with Debian's package prometheus; without it only the test of codes is left.
"""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from seal_ray import errors
from seal_ray.observe.metrics import exit_code

RULES = Path(__file__).parents[2] / "cluster/alerts.yaml"
PROMTOOL = shutil.which("promtool")
RUN = '{run="s3://b/r"}'
TELLS = f"ray_seal_last_event_seconds{RUN}"  # the series start at the year 1970: minute m is second 60 m

# what is heard minute by minute, and which alerts are on in minute 30
HEARD: dict[str, tuple[dict[str, str], set[str]]] = {
    "a run that goes on": ({TELLS: "0+60x40", f"ray_seal_exit_code{RUN}": "0x40"}, set()),
    "a run that hangs": ({TELLS: "0+60x5 300x30"}, {"RunIsSilent"}),
    "a driver that is gone with its series": ({TELLS: "0+60x10 stale _x30"}, {"RunIsGone"}),
    "a job that failed": (
        {'kuberay_job_deployment_status{name="j",namespace="n",deployment_status="Failed"}': "0x20 1x20"},
        {"RunFailed"},
    ),
    "a run that ended in an error": (
        {TELLS: "0+60x40", f"ray_seal_exit_code{RUN}": "0x20 2x3 stale _x9"},
        {"RunEndedInError"},
    ),
    "a run that spent its budget": (
        {TELLS: "0+60x40", f"ray_seal_exit_code{RUN}": "0x20 5 stale _x9"},
        {"BudgetSpent"},
    ),
    "a run that was stopped": ({TELLS: "0+60x40", f"ray_seal_exit_code{RUN}": "0x20 130x20"}, set()),
    "a run that waits": ({TELLS: "0+60x40", f"ray_seal_waiting{RUN}": "1x40"}, {"RunWaits"}),
    "candidates without workers": (
        {TELLS: "0+60x40", f"ray_seal_workers{RUN}": "0x40", f"ray_seal_queue{RUN}": "9x40"},
        {"NoWorkers"},
    ),
    "trials that fail": (
        {
            TELLS: "0+60x40",
            'ray_seal_trials_total{run="s3://b/r",outcome="ok"}': "0+6x40",
            'ray_seal_trials_total{run="s3://b/r",outcome="oom"}': "0+2x40",
        },
        {"TrialsFail"},
    ),
    "a reward that is noise": ({TELLS: "0+60x40", f"ray_seal_reliability{RUN}": "0.1x40"}, {"RewardIsNoise"}),
}


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}


def test_every_alert_has_a_case_and_is_kept_quiet_by_another() -> None:
    assert set().union(*(on for _, on in HEARD.values())) == set(alerts())


@pytest.mark.skipif(not PROMTOOL, reason="promtool, which plays Prometheus, is not installed (Debian: prometheus)")
@pytest.mark.parametrize("case", HEARD)
def test_what_is_heard_wakes_those_who_should_be_woken(case: str, tmp_path: Path) -> None:
    series, on = HEARD[case]
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        # what is on has its labels, and nothing of the others may be there
        "promql_expr_test": [
            {
                "expr": f'count by (alertname) (ALERTS{{alertname="{name}",alertstate="firing"}})',
                "eval_time": "30m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1}] if name in on else [],
            }
            for name in alerts()
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run(
        [str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (Debian: prometheus)")
def test_prometheus_takes_the_rules() -> None:
    done = subprocess.run([str(PROMTOOL), "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and f"{len(alerts())} rules found" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("outcome", "code"),
    [("done", 0), ("held", 0), ("nothing to learn", 0), ("RuntimeError", 1), ("KeyError", 1)]
    + [(cls.__name__, cls.exit_code) for cls in (errors.ConfigError, errors.BudgetSpent, errors.Interrupted)],
)
def test_an_end_as_it_is_told_is_the_code_that_the_shell_sees(outcome: str, code: int) -> None:
    assert exit_code(outcome) == code
