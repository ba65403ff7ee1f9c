"""No secret leaves: neither what is configured, nor what the environment holds, nor what a library's error quotes."""

import json
import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_ray import config_file
from seal_ray.errors import ConfigError, InfraError
from seal_ray.records import Failure
from seal_ray.redaction import credential_in, logger, redact, redacted

ROOT = Path(__file__).parents[2]
SECRET = "s3cr3t-Value/with+marks=42"

CARRIERS = [
    "https://user:{}@host/v1",
    "s3://AKIA:{}@bucket/key",
    "https://b.s3.amazonaws.com/k?X-Amz-Signature={}",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential={}&x=1",
    "https://b.s3.amazonaws.com/k?X-Amz-Security-Token={}",
    "https://a.blob.core.windows.net/c/d?sv=2024&sig={}",
    "https://h/v1?api_key={}",
    "https://h/v1?api-key={}&api-version=3",
    "https://h/v1?key={}",
    "https://h/v1?access_token={}#part",
    "https://h/v1?subscription-key={}",
    "DefaultEndpointsProtocol=https;AccountName=a;AccountKey={};EndpointSuffix=x",
    "Endpoint=sb://x/;SharedAccessKey={}",
    "postgresql://me:{}@db:5432/mlflow",
]
TOLD = [
    *CARRIERS,
    "Authorization: Bearer {}",
    "{{'authorization': 'Basic {}'}}",
    "illegal header value b'Bearer {}'",
    "proxy-authorization: {}",
    "x-api-key: {}",
    "aws_secret_access_key = {}",
    '{{"password": "{}"}}',
]
HARMLESS = [
    "s3://bucket/folder/key=1/data.json",
    "runs/default",
    "https://host:9000/v1",
    "https://n.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-06-01",
    "OPENAI_API_KEY",
    "answering.max_tokens: 64",
    "candidate 12ab failed after 3 tokens: a key was missing",
    "question 'what is the password of the day?'",
    "the token id 5 is outside the vocabulary",
]


@pytest.mark.parametrize("carrier", TOLD)
def test_what_looks_like_a_credential_is_not_told(carrier: str) -> None:
    text = f"it failed at {carrier.format(SECRET)} for good"
    for told in (redact(text), str(InfraError(text, hint=text)), Failure("judge", text).message):
        assert SECRET not in told and "***" in told
        assert redact(told) == told, "redacting twice is redacting once"
    assert SECRET not in str(redacted({"a": [{"b": text}], "c": (text,)}))


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_is_told_as_it_is(text: str) -> None:
    assert redact(text) == text and not credential_in(text)


@pytest.mark.parametrize(
    "variable", ["A_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "WANDB_API_KEY", "DB_PASSWORD"]
)
def test_what_the_environment_keeps_secret_is_not_told(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, f"{SECRET}\n")
    error = InfraError(f"the server said: {SECRET} is wrong")
    assert SECRET not in str(error) and SECRET not in str(pickle.loads(pickle.dumps(error)))


@pytest.mark.parametrize("write", [quote, quote_plus, repr, json.dumps, lambda text: quote(text, safe="")])
@pytest.mark.parametrize(
    "secret", ["s3cr3t/with+marks =42", 'a "quoted" \\ one', "-----BEGIN KEY-----\nabc\n-----END", "gehëim-1"]
)
def test_however_a_library_writes_what_the_environment_keeps_secret_it_is_not_told(
    secret: str, write: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", secret)
    written = write(secret)
    assert written.strip("'\"") not in redact(f"could not reach x with {written} there")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(CARRIERS),
    st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~%+/", min_size=6),
)
def test_any_secret_in_a_url_is_found(carrier: str, secret: str) -> None:
    if "/" in secret and "@" in carrier:
        secret = secret.replace("/", "%2F")
    url = carrier.format(secret)
    assert credential_in(url)
    assert f"{secret}@" not in redact(url) and f"={secret}" not in redact(url)


SETTINGS = [
    "run.uri",
    "model.name",
    "model.mirror",
    "domain.data",
    "grading.judge_url",
    "storage.endpoint",
    "observe.mlflow",
]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_setting_with_a_credential_is_refused_without_being_shown(setting: str, carrier: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_file.parse("", "run.yaml", [f"{setting}='{carrier.format(SECRET)}'"])
    assert setting in str(caught.value) and SECRET not in str(caught.value)


def test_a_key_given_in_place_of_its_variable_is_not_shown() -> None:
    with pytest.raises(ConfigError, match=r"grading\.judge_key_env") as caught:
        config_file.parse("", "run.yaml", [f"grading.judge_key_env='{SECRET}'"])
    assert SECRET not in str(caught.value)


def test_a_log_line_holds_no_credential(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        logger("seal_ray.attack").warning("could not reach %s", f"https://me:{SECRET}@host/")
    assert "could not reach https://***@host/" in caplog.text and SECRET not in caplog.text


def test_every_module_logs_through_the_one_that_redacts() -> None:
    direct = re.compile(r"getLogger\(__name__\)|logging\.(info|warning|error|debug|exception)\(")
    assert not [f.name for f in (ROOT / "seal_ray").rglob("*.py") if direct.search(f.read_text())]
