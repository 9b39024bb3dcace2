"""One OpenAI-compatible model: a call with a time limit that holds, and what its failures mean."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal

from pydantic import SecretStr

from webhook.domain.prompt import Prompt
from webhook.model_ports import ModelAnswer, ModelFailed

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAI

_LONGEST_ANSWER = 256 * 1024  # bytes
_LONGEST_WAIT = 86_400.0  # seconds; what is asked for beyond is no reasonable Retry-After
_BAD_REQUEST, _TOO_MANY, _SERVER_ERROR = 400, 429, 500
_LASTING = (401, 402, 403, 404)
"""A wrong key, no credit, no such model: the next call fares no better."""

Format = Literal["json_schema", "json_object"]


class OpenAiModel:
    """`/chat/completions` of one provider. At most `parallel` calls at once; a slow answer is given up in time."""

    def __init__(
        self,
        *,
        model: str,
        name: str | None = None,
        api_key: SecretStr | None = None,
        base_url: str | None = None,
        timeout: float | None = None,
        max_tokens: int = 1200,
        price_in: float = 0,
        price_out: float = 0,
        parallel: int = 8,
    ) -> None:
        from openai import OpenAI  # noqa: PLC0415 - takes a second to load, and only who has a model needs it

        self.name, self.model = name or model, model
        self.timeout, self.max_tokens = timeout, max_tokens
        self.price_in, self.price_out = price_in, price_out
        # Local servers want no key, but the library insists on one.
        key = api_key.get_secret_value() if api_key else "none"
        self._client: OpenAI = OpenAI(api_key=key, base_url=base_url, max_retries=0)
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="model")
        self._free = threading.BoundedSemaphore(parallel)
        self._format: Format = "json_schema"
        self._limit = "max_tokens"

    def ask(self, prompt: Prompt, schema: Mapping[str, Any], seconds: float, *, answers: int = 1) -> ModelAnswer:
        """Raise ModelFailed after `seconds` at the latest, whatever the server does."""
        if not self._free.acquire(blocking=False):
            raise ModelFailed("busy", "every connection to the model is busy", at_fault=False)
        deadline = time.monotonic() + seconds
        answer: Future[ModelAnswer] = self._threads.submit(self._answer, prompt, schema, deadline, answers)
        try:
            return answer.result(seconds)
        except TimeoutError:
            raise _slow() from None
        except ModelFailed:
            raise
        except Exception as error:  # a connection that breaks in the middle surfaces as the HTTP library's own
            raise ModelFailed("failed", type(error).__name__, again=True, billed=True) from error

    def close(self) -> None:
        self._client.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _answer(self, prompt: Prompt, schema: Mapping[str, Any], deadline: float, answers: int) -> ModelAnswer:
        """Free again before the caller has its answer: who asks next must not find this one busy still."""
        try:
            return self._ask(prompt, schema, deadline, answers)
        finally:
            self._free.release()

    def _ask(self, prompt: Prompt, schema: Mapping[str, Any], deadline: float, answers: int) -> ModelAnswer:
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError  # noqa: PLC0415 - above

        try:
            return self._try(prompt, schema, deadline, answers)
        except APITimeoutError:
            raise _slow() from None
        except APIConnectionError as error:
            raise ModelFailed("failed", type(error).__name__, again=True) from None
        except APIStatusError as error:
            raise self._status_failure(error) from None
        except OpenAIError as error:
            raise ModelFailed("refused", type(error).__name__) from None

    def _try(self, prompt: Prompt, schema: Mapping[str, Any], deadline: float, answers: int) -> ModelAnswer:
        """One request, read piece by piece: an answer that drips is given up at the deadline."""
        left = deadline - time.monotonic()
        settings: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
            "response_format": self._response_format(schema),
            self._limit: self.max_tokens * answers,
        }
        client = self._client.with_options(timeout=max(left, 0.1))
        with client.chat.completions.with_streaming_response.create(**settings) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if len(body) > _LONGEST_ANSWER:
                    raise ModelFailed("refused", "the answer is too long", at_fault=False, billed=True)
                if time.monotonic() > deadline:
                    raise _slow()
        return _completion(bytes(body))

    def _response_format(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        if self._format == "json_object":
            return {"type": "json_object"}
        return {"type": "json_schema", "json_schema": {"name": "alert_summary", "strict": True, "schema": schema}}

    def _status_failure(self, error: APIStatusError) -> ModelFailed:
        """The status, not the text: a provider's text may repeat the key or the prompt."""
        status = error.status_code
        told = f"{type(error).__name__} {status}"
        if status == _BAD_REQUEST and self._steps_down(error.message):
            return ModelFailed("refused", f"{told}: asked again in another form", again=True, at_fault=False)
        if status in _LASTING:
            return ModelFailed("refused", told, lasting=True)
        if status == _TOO_MANY:
            return ModelFailed("failed", told, again=True, retry_after=_retry_after(error))
        if status >= _SERVER_ERROR:
            return ModelFailed("failed", told, again=True, retry_after=_retry_after(error))
        return ModelFailed("refused", told, at_fault=False)  # this prompt alone: too long, or filtered

    def _steps_down(self, message: str) -> bool:
        """Remember what the provider does not take; False where it means something else."""
        if self._format == "json_schema" and any(word in message for word in ("response_format", "json_schema")):
            self._format = "json_object"
            return True
        if self._limit == "max_tokens" and "max_completion_tokens" in message:
            self._limit = "max_completion_tokens"
            return True
        return False


def _completion(body: bytes) -> ModelAnswer:
    """The text of the first choice; raise ModelFailed when the answer has another shape."""
    from openai.types.chat import ChatCompletion  # noqa: PLC0415 - above

    try:
        completion = ChatCompletion.model_validate_json(body)
        content = completion.choices[0].message.content
    except (ValueError, IndexError):
        raise ModelFailed("refused", "not a chat completion", billed=True) from None
    usage = completion.usage
    counted = (None, None) if usage is None else (max(0, usage.prompt_tokens), max(0, usage.completion_tokens))
    return ModelAnswer(content or "", *counted)


def _retry_after(error: APIStatusError) -> float | None:
    """In seconds, as providers send it; a date is left to our own pace."""
    try:
        asked = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return asked if 0 < asked <= _LONGEST_WAIT else None


def _slow() -> ModelFailed:
    return ModelFailed("timeout", "no answer in time", again=True, billed=True)
