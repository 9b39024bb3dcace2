"""What the pipeline needs from the outside, and the errors that say whether trying again can help.

DeliveryError                 a message was not delivered
├── TemporaryDeliveryError    try again (after `retry_after` seconds, where the provider said so); it may have arrived
└── PermanentDeliveryError    trying again cannot help: revoked token, archived channel, bad address
HistoryUnavailable            Prometheus or Alertmanager could not answer
PanelUnavailable              Grafana had no picture, or none that can be believed
SummaryRefused                no model gave an answer that can be used
TemplateNotFound              no prompt template, or no version of it, for this alert type
StoreUnavailable              the store did not answer in time, or refuses
└── StoreConflict             another transaction came first: the same again will see it
AlertNotFound                 no alert has this id
AlreadyAnswered               the same request was answered before
SecretUnreadable              a secret at rest cannot be encrypted or decrypted with the keys there are
VersionConflict               what is to be changed was changed by somebody else meanwhile
StaffOnly                     a setting that a merchant must not change
ConfigNotFound                no configuration, or no version of it, has this name
UnknownMasks                  a masked secret came back and it is not clear which stored one it stands for
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, runtime_checkable

from webhook.domain.ledger import Changes, Claim, IngestSettings, Known, Received
from webhook.domain.message import Message, Note, Summary
from webhook.domain.retrying import Wait
from webhook.domain.shown import Shown
from webhook.domain.summary import SummaryRefused
from webhook.domain.usual import Usual

__all__ = [
    "AlertNotFound",
    "AlertStore",
    "AlreadyAnswered",
    "Answer",
    "ChartRenderer",
    "ChartSpec",
    "ConfigNotFound",
    "DeliveryError",
    "FiringAlerts",
    "FollowingNotifier",
    "FrequencyPlaces",
    "HistoryUnavailable",
    "Message",
    "MetricHistory",
    "Note",
    "Notifier",
    "PanelUnavailable",
    "Panels",
    "PastDays",
    "PermanentDeliveryError",
    "Receipt",
    "RepeatableRequest",
    "SecretUnreadable",
    "Secrets",
    "Series",
    "StaffOnly",
    "Standing",
    "StoreConflict",
    "StoreUnavailable",
    "Summariser",
    "Summary",
    "SummaryRefused",
    "Taken",
    "TemplateNotFound",
    "TemporaryDeliveryError",
    "UnknownMasks",
    "VersionConflict",
    "Wait",
]


class DeliveryError(Exception):
    """A message was not delivered."""


class TemporaryDeliveryError(DeliveryError):
    """Trying again can help, not before `retry_after` seconds where the provider named a time.

    `whose` wait that is: of all that go to the same place, of this message alone, or of the channel. `unsure`: the
    provider may have taken the message, and its answer was lost. `blind`: nothing there would tell the same message,
    sent again, from a new one.
    """

    def __init__(
        self,
        message: str,
        retry_after: float | None = None,
        *,
        whose: Wait = Wait.PLACE,
        unsure: bool = False,
        blind: bool = False,
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.whose = whose
        self.unsure = unsure
        self.blind = blind


class PermanentDeliveryError(DeliveryError):
    """Trying again cannot help."""


class HistoryUnavailable(Exception):  # noqa: N818 - a state of the other side, as requests names its own
    """Prometheus or Alertmanager could not answer; the caller goes on without."""


class StoreUnavailable(Exception):  # noqa: N818 - a state of the other side
    """The store did not answer in time, or refuses; whoever delivers is to come back."""


class StoreConflict(StoreUnavailable):
    """Another transaction came first: the same again will see what it wrote."""


class SecretUnreadable(Exception):  # noqa: N818 - a state of the keys
    """A secret at rest cannot be encrypted or decrypted with the keys there are."""


class AlertNotFound(LookupError):  # noqa: N818 - an answer to a person
    """No alert has this id."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request is answered with: the HTTP status, and what its JSON body says."""

    status: int
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RepeatableRequest:
    """A request that names itself: when it comes again it is answered as the first time, and changes nothing.

    `credential` is whose name it is, `body_hash` tells another request under the same name apart.
    """

    credential: str
    request_id: str
    route: str
    body_hash: str
    answer: Callable[[Changes], Answer]


class AlreadyAnswered(Exception):  # noqa: N818 - not a failure
    """The same request was answered with `answer`; `same` is False where it was another one under this name."""

    def __init__(self, answer: Answer, *, same: bool) -> None:
        super().__init__("this request was answered before")
        self.answer = answer
        self.same = same


class Taken(Protocol):
    """Places that one delivery has taken. `granted`: whether each of its claims got one, in their order."""

    @property
    def granted(self) -> Sequence[bool]: ...
    def give_back(self) -> None:
        """Its messages do not go out after all. Raises nothing."""


class FrequencyPlaces(Protocol):
    """Who gets the places that frequency limits leave, across all processes."""

    def take(self, claims: Sequence[Claim]) -> Taken | None:
        """Take a place for each claim that gets one; None when it cannot be asked now. Raises nothing."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What the provider answered: its own reference (a Slack ts, a message id) and details worth keeping."""

    reference: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    def place(self, target: str) -> tuple[str, str]:
        """Where the message stands: in the channel that the provider named, else at the `target` of its settings."""
        channel = self.details.get("channel")
        return (str(channel), self.reference) if channel else (target, "")


class Notifier(Protocol):
    """One channel. `settings`: a merchant's own for it, with its secrets. `parallel`: sends of a worker at once."""

    channel_type: str
    parallel: int

    def send(self, message: Message, settings: Mapping[str, Any], before: Receipt | None = None) -> Receipt:
        """Deliver the text at once; raise TemporaryDeliveryError or PermanentDeliveryError.

        `before`: what came of the last message about the same alert with the same settings, where there was one.
        """

    def attach(self, message: Message, receipt: Receipt, chart_png: bytes, settings: Mapping[str, Any]) -> None:
        """Add the chart to what `send` delivered, which never waits for it; raise as `send` does."""

    def preview(self, message: Message, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `send` would hand to the provider, as JSON without secrets. Nothing is sent."""

    def check(self) -> str:
        """Ask the provider, sending nothing, whether it knows us; say as whom. Raise as `send` does."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The last message at one place about an alert, and the words that its people got last."""

    note: Note
    summary: Summary
    receipt: Receipt

    @property
    def shown(self) -> Shown | None:
        """The state that the message shows, where that is known."""
        return Shown.read(self.receipt.details.get("shown"))

    @property
    def place(self) -> tuple[str, str]:
        return self.receipt.place(self.note.target)


@runtime_checkable
class FollowingNotifier(Notifier, Protocol):
    """One whose message stays where it is, so that it can show what people do afterwards."""

    def follow(self, message: Message, receipt: Receipt, settings: Mapping[str, Any]) -> Receipt:
        """Show the alert as it stands, telling nobody anew; the receipt has its `shown`. Raise as `send` does."""

    def behind(self) -> set[str]:
        """Ids of alerts whose message could not be brought up to date when it was sent; each is named once."""


@dataclass(frozen=True, slots=True)
class Series:
    """One metric over time: UTC times and full-precision values, oldest first."""

    metric: str
    times: Sequence[datetime]
    values: Sequence[float]


class MetricHistory(Protocol):
    def range(self, metric: str, account_id: str, start: datetime, end: datetime, step: timedelta) -> Series:
        """`sentinel_<metric>` of one account, the maximum over replicas; raise HistoryUnavailable."""


class PastDays(Protocol):
    def past_days(
        self, metric: str, account_id: str, start: datetime, end: datetime, step: timedelta, *, days: int
    ) -> Mapping[int, Sequence[tuple[datetime, float]]]:
        """Values of the same hours of the days before, by how many days ago, at the times of today.

        Raise HistoryUnavailable.
        """


@dataclass(frozen=True, slots=True)
class ChartSpec:
    """A metric against its threshold (an alarming value is `operator` it), with the alert's time shaded.

    `theme` is what it is looked at on. Values further apart than `step` are not joined by a line.
    """

    series: Series
    threshold: float | None
    merchant: str
    alert_start: datetime
    alert_end: datetime | None
    now: datetime
    theme: Literal["light", "dark"] = "light"
    format: Literal["png", "svg"] = "png"
    usual: Usual | None = None
    step: timedelta | None = None
    operator: str = ">"


class ChartRenderer(Protocol):
    def render(self, spec: ChartSpec) -> bytes: ...


class PanelUnavailable(Exception):  # noqa: N818 - a state of the other side
    """There is no picture of Grafana's; `why` is one of a few words, for a metric."""

    def __init__(self, why: str, details: str = "") -> None:
        super().__init__(f"{why}: {details}" if details else why)
        self.why = why


class Panels(Protocol):
    def render(self, alert_type: str, account_id: str, start: datetime, end: datetime, theme: str) -> bytes:
        """A PNG of the panel for this alert type within a time budget; raise PanelUnavailable."""


class Summariser(Protocol):
    def summarise(self, note: Note, timeout: timedelta) -> Summary:
        """Words within `timeout`, whatever happens. Raises nothing."""


class FiringAlerts(Protocol):
    def firing(self) -> frozenset[str]:
        """Fingerprints Alertmanager holds as firing, silenced and inhibited too; raise HistoryUnavailable."""


class VersionConflict(Exception):  # noqa: N818 - an answer to a person
    """What is to be changed has another version than the one that was seen; `present` is its own, 0 where it is not."""

    def __init__(self, name: str, present: int) -> None:
        super().__init__(f"{name} has changed meanwhile: its version is now {present}")
        self.present = present


class StaffOnly(Exception):  # noqa: N818 - an answer to a person
    """Settings that only admin and ops may change; `places` names them."""

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__(", ".join(places))
        self.places = list(places)


class ConfigNotFound(LookupError):  # noqa: N818 - an answer to a person
    """There is no configuration, or no version of it, by this name."""


class TemplateNotFound(LookupError):  # noqa: N818 - an answer to a person
    """There is no prompt template of this alert type, or no such version of it."""


class UnknownMasks(ValueError):  # noqa: N818 - an answer to a person
    """Masks that stand for nothing stored, or for one of several; `problems` says which, by place."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{place} {why}" for place, why in problems.items()))
        self.problems = dict(problems)


class Secrets(Protocol):
    """Single texts at rest; see `webhook.adapters.secrets.SecretBox`. Each may raise SecretUnreadable."""

    def encrypt(self, text: str) -> str: ...
    def decrypt(self, text: str) -> str: ...
    def rotate(self, text: str) -> str:
        """Encrypted with the first key, whatever it was before."""


class AlertStore(Protocol):
    """Where alerts live. Each call is one transaction; raises StoreConflict or StoreUnavailable."""

    def ingest(
        self,
        delivery: Sequence[Received],
        settings: IngestSettings,
        now: datetime,
        decide: Callable[[Known], Changes],
        request: RepeatableRequest | None = None,
    ) -> Changes:
        """Read under lock what is known of the alerts, decide, write; all of it or nothing.

        Raise AlreadyAnswered when `request` was handled before.
        """
