"""What summaries need of a language model, and how a call of one fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from webhook.domain.prompt import Prompt


class ModelFailed(Exception):  # noqa: N818 - a state of the other side
    """One call brought no answer. `kind`: timeout, failed, refused or busy; the text is without secrets.

    `again`: the same call may work soon. `at_fault`: the model itself is in trouble, or its settings are wrong, and is
    to be left alone, for `retry_after` seconds where it said so. `billed`: it may have read the prompt all the same.
    """

    def __init__(
        self,
        kind: Literal["timeout", "failed", "refused", "busy"],
        message: str,
        *,
        again: bool = False,
        at_fault: bool = True,
        lasting: bool = False,
        billed: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.again, self.at_fault, self.lasting, self.billed = again, at_fault, lasting, billed
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """The text as it came, and the tokens that were counted; None where the provider did not say."""

    text: str
    tokens_in: int | None = None
    tokens_out: int | None = None


class Model(Protocol):
    """One model behind one provider. Prices are for a million tokens."""

    name: str
    timeout: float | None
    max_tokens: int
    price_in: float
    price_out: float

    def ask(self, prompt: Prompt, schema: Mapping[str, Any], seconds: float, *, answers: int = 1) -> ModelAnswer:
        """One call that ends after `seconds` at the latest; `max_tokens` for each of `answers`. Raise ModelFailed."""
