"""One model, against an OpenAI-compatible server that behaves and misbehaves."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes_llm import Answer, LlmStub, broken, completion, dripping, failure, good, hanging, held, raw, reset
from notes import make_note
from pydantic import SecretStr
from servers import wait_for
from summaries_parts import KEY, LONG

from webhook.adapters.llm import OpenAiModel
from webhook.domain.answer import answer_schema
from webhook.domain.prompt import build_prompt
from webhook.model_ports import ModelAnswer, ModelFailed

PROMPT = build_prompt(make_note())


@pytest.fixture
def llm() -> Iterator[LlmStub]:
    with LlmStub() as stub:
        yield stub


@pytest.fixture
def model(llm: LlmStub) -> Iterator[OpenAiModel]:
    model = OpenAiModel(model="stub-1", api_key=SecretStr(KEY), base_url=llm.url)
    yield model
    model.close()


def ask(model: OpenAiModel, seconds: float = LONG) -> ModelAnswer:
    return model.ask(PROMPT, answer_schema(1), seconds)


def test_what_is_asked_and_what_it_took(llm: LlmStub, model: OpenAiModel) -> None:
    llm.answers = [good()]
    answer = ask(model)

    assert "Northwind Books" in answer.text
    assert (answer.tokens_in, answer.tokens_out) == (300, 90)
    (request,) = llm.requests
    assert request["path"] == "/v1/chat/completions"
    assert request["authorization"] == f"Bearer {KEY}"
    assert (request["model"], request["max_tokens"]) == ("stub-1", 1200)
    schema = request["response_format"]["json_schema"]
    assert (request["response_format"]["type"], schema["strict"]) == ("json_schema", True)
    assert set(schema["schema"]["required"]) == {"title", "summary", "severity", "suggested_action"}
    assert schema["schema"]["additionalProperties"] is False
    assert "0.35038363171355497" in request["messages"][1]["content"]


def test_who_does_not_take_a_schema_is_asked_for_json(llm: LlmStub, model: OpenAiModel) -> None:
    """And asked so from then on; as for the name of the limit."""
    llm.answers = [
        failure(400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
        failure(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
        good(),
    ]
    for _ in range(2):
        with pytest.raises(ModelFailed) as refused:
            ask(model)
        assert (refused.value.again, refused.value.at_fault) == (True, False)
    assert ask(model).text
    assert ask(model).text
    for request in llm.requests[2:]:
        assert request["response_format"] == {"type": "json_object"}
        assert request["max_completion_tokens"] == 1200
        assert "max_tokens" not in request


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (failure(429), ("failed", True, True)),
        (failure(500), ("failed", True, True)),
        (failure(503), ("failed", True, True)),
        (reset(), ("failed", True, True)),
        (broken(), ("failed", True, True)),
        (failure(400, "filtered"), ("refused", False, False)),
        (failure(422), ("refused", False, False)),
        (failure(401, f"Incorrect API key provided: {KEY}"), ("refused", False, True)),
        (failure(404), ("refused", False, True)),
        (raw(b"<html>gateway</html>"), ("refused", False, True)),
        (raw(b"{}"), ("refused", False, True)),
        (raw(b'{"choices": []}'), ("refused", False, True)),
        (raw(b""), ("refused", False, True)),
        (completion("x" * 300_000), ("refused", False, False)),
    ],
)
def test_what_a_failure_means(
    llm: LlmStub, model: OpenAiModel, answer: Answer, meaning: tuple[str, bool, bool]
) -> None:
    """Its kind, whether the same may work soon, and whether the model is to be rested for it."""
    llm.answers = [answer]
    with pytest.raises(ModelFailed) as failed:
        ask(model)
    assert (failed.value.kind, failed.value.again, failed.value.at_fault) == meaning
    assert KEY not in str(failed.value)
    assert len(llm.requests) == 1, "the chain decides whether to try again"


@pytest.mark.parametrize(("header", "seconds"), [("17", 17.0), ("0", None), ("Fri, 21 Nov 2025 10:00:00 GMT", None)])
def test_how_long_a_provider_wants_to_be_left_alone(
    llm: LlmStub, model: OpenAiModel, header: str, seconds: float | None
) -> None:
    llm.answers = [failure(429, retry_after=header)]
    with pytest.raises(ModelFailed) as failed:
        ask(model)
    assert failed.value.retry_after == seconds


@pytest.mark.parametrize("answer", [hanging(), dripping(0.05)])
def test_the_time_holds_whatever_the_server_does(llm: LlmStub, model: OpenAiModel, answer: Answer) -> None:
    """The server never ends what it says: neither the caller nor the thread that asks waits for that."""
    llm.answers = [answer]
    with pytest.raises(ModelFailed) as failed:
        ask(model, 0.6)
    assert failed.value.kind == "timeout"
    model.close()


def test_nobody_listening() -> None:
    with LlmStub() as gone:
        url = gone.url
    model = OpenAiModel(model="stub-1", base_url=url)
    with pytest.raises(ModelFailed, match="APIConnectionError"):
        ask(model)
    model.close()


def test_a_model_that_hangs_does_not_pile_up_requests(llm: LlmStub) -> None:
    go_on = threading.Event()
    llm.answers = [held(go_on, good())]
    model = OpenAiModel(model="stub-1", base_url=llm.url, parallel=1)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(ask, model)
        wait_for(lambda: llm.requests, what="the first request")
        with pytest.raises(ModelFailed, match="busy"):
            ask(model)
        go_on.set()
        assert first.result().text
    assert ask(model).text
    model.close()
