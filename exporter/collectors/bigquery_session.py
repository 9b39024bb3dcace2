"""One source's queries: estimated, run and downloaded inside the deadline, else cancelled on the server."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import polars as pl
import requests
import tenacity
from google.api_core.exceptions import Conflict, GoogleAPICallError, RetryError
from google.auth import exceptions as auth_errors
from google.cloud import bigquery

from exporter.collectors.base import Collection, within_max_rows
from exporter.collectors.bigquery import BigQueryConfig, Statement
from exporter.collectors.bigquery_answers import (
    Estimate,
    Field,
    empty_frame,
    estimate_measure,
    failure,
    frame_of_batch,
    measures,
    nested_fields,
    within_budget,
)
from exporter.collectors.bigquery_client import (
    Connections,
    account_key,
    client_of,
    credentials_of,
    innermost,
    require_storage_library,
    storage_client,
)
from exporter.collectors.http_json import retry_after
from exporter.errors import BadAnswer, CollectError, SecretMissing, ServerFailed, TimedOut, Unauthorized, Unreachable

T = TypeVar("T")
_NO_RETRY: Any = None  # which the library takes, though its types do not say so
_ATTEMPTS = 4
_FAREWELL = 2.0  # seconds that cancelling a query on the server may take
_TYPES = {
    "string": "STRING",
    "int": "INT64",
    "float": "FLOAT64",
    "bool": "BOOL",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
}
_backoff = tenacity.wait_exponential_jitter(multiplier=0.5, max=8, jitter=0.25)


class BigQuerySession:
    """The client of one source, kept while the credentials stay the same."""

    def __init__(self, config: BigQueryConfig) -> None:
        if config.storage_api:
            require_storage_library()
        self._config = config
        self._connections = Connections()
        self._key: str | None = None
        self._client: bigquery.Client | None = None
        self._credentials: Any = None
        self._storage: Any = None

    def collect(self, statement: Statement, collection: Collection) -> pl.DataFrame:
        """The query's rows, those columns that metrics read."""
        with self._connections.within(collection.remaining):
            try:
                with answers(collection, statement.query):
                    client = self._opened(collection)
                run = Run(self._config, client, self._connections, statement, collection)
                return self._rows(run, collection)
            except Unauthorized:
                self.close()
                raise

    def cancel(self) -> None:
        self._connections.cancel()
        self._close_storage()

    def close(self) -> None:
        client, self._client = self._client, None
        self._close_storage()
        if client is not None:
            client.close()  # type: ignore[no-untyped-call]  # Google's libraries are typed in part

    def _close_storage(self) -> None:
        storage, self._storage = self._storage, None
        if storage is not None:
            storage.transport.close()

    def _rows(self, run: Run, collection: Collection) -> pl.DataFrame:
        config = self._config
        estimate = run.estimate()
        collection.measures.append(estimate_measure(estimate))
        within_budget(estimate, config.max_bytes)
        nested = nested_fields(estimate.fields, config.metrics)
        collection.warn("nested", int(nested is not None), nested or "")
        total, fields = run.finish(estimate)
        nested_fields(fields, config.metrics)
        names = collection.fields = [field.name for field in fields]
        taken = within_max_rows(config, total, collection)
        if not taken:
            return empty_frame(names, config.columns)
        return run.download(taken, self._storage)

    def _opened(self, collection: Collection) -> bigquery.Client:
        key = account_key(self._config, collection)
        if self._client is None or key != self._key:
            self.close()
            self._credentials = credentials_of(self._config, key, self._connections)
            self._client, self._key = client_of(self._config, self._credentials, self._connections), key
        if self._config.storage_api and self._storage is None:
            self._storage = storage_client(self._credentials)
        return self._client


class Run:
    """One collection's query. Its job has an identifier of ours, so that it can be cancelled whatever was answered."""

    def __init__(
        self,
        config: BigQueryConfig,
        client: bigquery.Client,
        connections: Connections,
        statement: Statement,
        collection: Collection,
    ) -> None:
        self._config = config
        self._client = client
        self._connections = connections
        self._statement = statement
        self._collection = collection
        self._job_id = f"sentinel-{re.sub(r'[^A-Za-z0-9_-]', '_', config.name)[:100]}-{uuid.uuid4().hex}"
        self._job: bigquery.QueryJob | None = None
        self._ended = self._failed = False

    def estimate(self) -> Estimate:
        """What a dry run, which costs nothing, says about the query."""
        return self._tried(self._estimate)

    def finish(self, estimate: Estimate) -> tuple[int, list[Field]]:
        """Run the query to its end: the number of its rows, and its columns. On failure it does not run on."""
        location = self._config.location or estimate.location
        try:
            self._job = job = self._tried(lambda: self._insert(location))
            rows = self._tried(lambda: self._wait(job))
        except CollectError as error:
            if not self._ended and (self._job is not None or error.retryable):
                self._stop(location)
            raise
        self._measure(job)
        if not rows.schema:
            raise BadAnswer("the query gives no table of rows: write one SELECT statement")
        return int(rows.total_rows or 0), [_field(column) for column in rows.schema]

    def download(self, taken: int, storage: Any) -> pl.DataFrame:  # noqa: ANN401 - an optional library's
        """The first `taken` rows; what was already read when a connection broke is not read again."""
        frames: list[pl.DataFrame] = []
        if storage is None:
            self._tried(lambda: self._download(frames, taken))
        else:
            self._tried(lambda: self._stream(frames, taken, storage))
        return pl.concat(frames).head(taken)

    def _estimate(self) -> Estimate:
        job = self._client.query(
            self._statement.query,
            job_config=self._job_config(dry_run=True),
            location=self._config.location,
            retry=_NO_RETRY,
            job_retry=None,
        )
        fields = tuple(map(_field, job.schema or ()))
        return Estimate(job.total_bytes_processed or 0, job.statement_type, job.location, fields)

    def _insert(self, location: str | None) -> bigquery.QueryJob:
        config = self._job_config()
        if self._config.max_bytes is not None:
            config.maximum_bytes_billed = self._config.max_bytes
        config.job_timeout_ms = max(1, int(self._collection.remaining() * 1000))
        try:
            return self._client.query(
                self._statement.query,
                job_config=config,
                job_id=self._job_id,
                location=location,
                retry=_NO_RETRY,
                job_retry=None,
            )
        except Conflict:  # an earlier try arrived, only its answer did not
            job = self._client.get_job(self._job_id, location=location, retry=_NO_RETRY)
            assert isinstance(job, bigquery.QueryJob)
            return job

    def _wait(self, job: bigquery.QueryJob) -> Any:  # noqa: ANN401 - one of two iterators, private ones in part
        try:
            return job.result(retry=_NO_RETRY, timeout=self._collection.remaining())
        finally:
            self._ended, self._failed = job.state == "DONE", job.error_result is not None

    def _download(self, frames: list[pl.DataFrame], taken: int) -> None:
        assert self._job is not None
        done = sum(map(len, frames))
        left = self._collection.remaining()
        rows = self._job.result(start_index=done, max_results=taken - done, retry=_NO_RETRY, timeout=left)
        for batch in rows.to_arrow_iterable():
            frames.append(frame_of_batch(batch, self._config.columns))
            self._collection.remaining()

    def _stream(self, frames: list[pl.DataFrame], taken: int, storage: Any) -> None:  # noqa: ANN401 - see `download`
        assert self._job is not None
        frames.clear()
        left = self._collection.remaining()
        rows = self._job.result(retry=_NO_RETRY, timeout=left)
        for batch in rows.to_arrow_iterable(bqstorage_client=storage, timeout=left):
            frames.append(frame_of_batch(batch, self._config.columns))
            self._collection.remaining()
            if sum(map(len, frames)) >= taken:
                return

    def _job_config(self, *, dry_run: bool = False) -> bigquery.QueryJobConfig:
        labels = {"sentinel-source": re.sub(r"[^a-z0-9_-]", "_", self._config.name.lower())[:63]}
        return bigquery.QueryJobConfig(
            dry_run=dry_run,
            query_parameters=[_parameter(name, *typed) for name, typed in self._statement.parameters.items()],
            priority=self._config.priority.upper(),
            labels=labels | self._config.job_labels,
        )

    def _stop(self, location: str | None) -> None:
        """Cancel the query on the server, as well as can be done; what it cost counts."""
        with self._connections.within(lambda: _FAREWELL, shielded=True):
            try:
                with answers(self._collection, self._statement.query):
                    job = self._client.cancel_job(self._job_id, location=location, retry=_NO_RETRY, timeout=_FAREWELL)
            except CollectError as error:
                self._collection.warn("not_cancelled", 1, f"the query may still run, as job {self._job_id}: {error}")
            else:
                self._measure(job)

    def _measure(self, job: Any) -> None:  # noqa: ANN401 - a job of any kind, says the library
        self._collection.measures += measures(
            processed=job.total_bytes_processed,
            billed=job.total_bytes_billed,
            slot_milliseconds=job.slot_millis,
            cached=job.cache_hit,
        )

    def _tried(self, step: Callable[[], T]) -> T:
        """Try again what passes, while there is time; but not a job that has failed."""

        def once() -> T:
            self._collection.remaining()
            with answers(self._collection, self._statement.query):
                return step()

        def passes(error: BaseException) -> bool:
            again = isinstance(error, CollectError) and error.retryable and not isinstance(error, TimedOut)
            return again and not self._failed

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception(passes),
            wait=_wait_of,
            stop=lambda state: (
                state.attempt_number >= _ATTEMPTS
                or self._collection.clock() + state.upcoming_sleep >= self._collection.deadline
            ),
            sleep=self._collection.sleep,
            reraise=True,
        )
        return attempts(once)


@contextmanager
def answers(collection: Collection, query: str) -> Iterator[None]:
    """Whatever the libraries raise, as a CollectError."""
    try:
        yield
    except GoogleAPICallError as error:
        raise _refusal(error, query) from None
    except RetryError as error:  # of the Storage API, which has retries of its own
        raise ServerFailed(f"BigQuery: {error.message}") from None
    except auth_errors.GoogleAuthError as error:
        collection.remaining()  # a connection that was cancelled is a timeout
        raise _not_identified(error) from None
    except (TimeoutError, requests.Timeout):
        raise TimedOut("BigQuery did not finish the query within the source's timeout") from None
    except requests.exceptions.JSONDecodeError:
        raise BadAnswer("what answered is not BigQuery, for it sent no JSON: is the endpoint right?") from None
    except requests.RequestException as error:
        collection.remaining()
        raise Unreachable(f"BigQuery cannot be reached: {innermost(error)}") from None
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # the library trusts what it reads
        collection.remaining()  # gRPC has a ValueError for a channel that was closed by `cancel`
        raise BadAnswer(f"BigQuery's answer cannot be read ({type(error).__name__}: {error})") from None


def _refusal(error: GoogleAPICallError, query: str) -> CollectError:
    first = next((item for item in error.errors if isinstance(item, dict)), {})
    said = {"message": str(error.message).partition("\n\nLocation:")[0]} | first
    found = failure(said, error.code, query)
    headers = getattr(error.response, "headers", None) or {}
    found.retry_after = retry_after(headers.get("Retry-After"), datetime.now(UTC))
    return found


def _not_identified(error: auth_errors.GoogleAuthError) -> CollectError:
    cause = error.args[0] if error.args else error
    if isinstance(error, auth_errors.TransportError) or isinstance(cause, auth_errors.TransportError):
        return Unreachable(f"the server that gives tokens cannot be reached: {innermost(error)}")
    if isinstance(error, auth_errors.DefaultCredentialsError):
        return SecretMissing(
            "there are no application default credentials here: set credentials_file or credentials_env, "
            f"or GOOGLE_APPLICATION_CREDENTIALS ({str(cause).partition('. ')[0]})"
        )
    if error.retryable:
        return ServerFailed(f"the server that gives tokens failed: {cause}")
    return Unauthorized(f"the credentials were refused: {cause}")


def _field(column: bigquery.SchemaField) -> Field:
    return Field(column.name, column.field_type, column.mode or "NULLABLE")


def _parameter(
    name: str,
    kind: str,
    value: Any,  # noqa: ANN401 - of the type that `kind` says, or a list of it
) -> bigquery.ScalarQueryParameter | bigquery.ArrayQueryParameter:
    if isinstance(value, list):
        return bigquery.ArrayQueryParameter(name, _TYPES[kind], value)
    return bigquery.ScalarQueryParameter(name, _TYPES[kind], value)


def _wait_of(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, CollectError) else None
    return _backoff(state) if asked is None else asked
