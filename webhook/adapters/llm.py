"""Summaries by an OpenAI-compatible model. Every failure is a SummaryRefused; the caller has a template."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import SecretStr

from webhook.domain.message import Note, Summary
from webhook.domain.summary import Prompt, SummaryRefused, build_prompt, check_summary

if TYPE_CHECKING:
    from openai import OpenAI

TRIES = 3
_PAUSE = 0.2  # seconds before the second try, doubled before the third
_LONGEST_ANSWER = 64 * 1024  # bytes


class OpenAiSummariser:
    """One model behind `/chat/completions`. The time limit holds for all tries together, slow answers included."""

    def __init__(
        self, *, model: str, api_key: SecretStr | None = None, base_url: str | None = None, parallel: int = 4
    ) -> None:
        from openai import OpenAI  # noqa: PLC0415 - takes a second to load, and only who has a model needs it

        self.name = model
        # Local servers want no key, but the library insists on one.
        key = api_key.get_secret_value() if api_key else "none"
        self._client: OpenAI = OpenAI(api_key=key, base_url=base_url, max_retries=0)
        self._threads = ThreadPoolExecutor(parallel, thread_name_prefix="model")
        self._free = threading.BoundedSemaphore(parallel)

    def summarise(self, note: Note, timeout: timedelta) -> Summary:
        """Raise SummaryRefused after `timeout` at the latest."""
        if not self._free.acquire(blocking=False):
            raise SummaryRefused("every connection to the model is busy")
        deadline = time.monotonic() + timeout.total_seconds()
        answer: Future[str] = self._threads.submit(self._answer, build_prompt(note), deadline)
        try:
            text = answer.result(timeout.total_seconds())
        except TimeoutError:
            raise SummaryRefused(f"no answer within {timeout.total_seconds():g} s") from None
        except SummaryRefused:
            raise
        except Exception as error:  # a connection that breaks in the middle surfaces as the HTTP library's own
            raise SummaryRefused(f"model unavailable: {_plain(error)}") from error
        return check_summary(text, note, self.name)

    def close(self) -> None:
        self._client.close()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _answer(self, prompt: Prompt, deadline: float) -> str:
        """Free again before the caller has its answer: who asks next must not find this one busy still."""
        try:
            return self._ask(prompt, deadline)
        finally:
            self._free.release()

    def _ask(self, prompt: Prompt, deadline: float) -> str:
        from openai import APIConnectionError, InternalServerError, OpenAIError, RateLimitError  # noqa: PLC0415 - above

        for number in range(1, TRIES + 1):
            try:
                return self._try(prompt, deadline)
            except (APIConnectionError, InternalServerError, RateLimitError) as error:
                pause = _PAUSE * 2 ** (number - 1)
                if number == TRIES or time.monotonic() + pause >= deadline:
                    raise SummaryRefused(f"model unavailable: {_plain(error)}") from None
                time.sleep(pause)
            except OpenAIError as error:
                raise SummaryRefused(f"model refused: {_plain(error)}") from None
        raise AssertionError("unreachable: the last try returns or raises")

    def _try(self, prompt: Prompt, deadline: float) -> str:
        """One request, read piece by piece: an answer that drips is given up at the deadline."""
        left = deadline - time.monotonic()
        with self._client.with_options(timeout=max(left, 0.1)).chat.completions.with_streaming_response.create(
            model=self.name,
            messages=[{"role": "system", "content": prompt.system}, {"role": "user", "content": prompt.user}],
            response_format={"type": "json_object"},
        ) as response:
            body = bytearray()
            for piece in response.iter_bytes():
                body += piece
                if time.monotonic() > deadline or len(body) > _LONGEST_ANSWER:
                    raise SummaryRefused("the answer is too slow or too long")
        return _content(bytes(body))


def _content(body: bytes) -> str:
    """The text of the first choice; raise SummaryRefused when the answer has another shape."""
    from openai.types.chat import ChatCompletion  # noqa: PLC0415 - above

    try:
        completion = ChatCompletion.model_validate_json(body)
        content = completion.choices[0].message.content
    except (ValueError, IndexError):
        raise SummaryRefused("not a chat completion") from None
    if not content:
        raise SummaryRefused("an empty answer")
    return content


def _plain(error: Exception) -> str:
    """The kind of error and its status, not the text: a provider's text may repeat the key or the prompt."""
    status = getattr(error, "status_code", None)
    return f"{type(error).__name__}{f' {status}' if status else ''}"
