"""What the runs of a ready model leave on record: the events that `pipeline.step_runner` would record."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.events.appending import beginning
from mlops_plugin.events.details.milestones import FinalCounts, TryStart
from mlops_plugin.events.details.process_identity import ProcessIdentity
from mlops_plugin.events.details.serialization import write_details
from mlops_plugin.events.details.step_reports import (
    Accounts,
    CollectReport,
    Counts,
    InferReport,
    LogReport,
    PersistReport,
    Place,
    RegisteredVersion,
)
from mlops_plugin.events.records import Details, DispatchIdentity, DispatchRecord, LogEntry, clean, plain
from mlops_plugin.events.tables import NAME_CHARS
from mlops_plugin.events.whole_dispatches import Happened, WholeDispatch
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.masking import masked
from mlops_plugin.serving.wanted import ROWS_GIVEN
from mlops_plugin.workers.process import ModelProcess

_TRY = 1
_MOST_USERS = 1024  # whose beginnings are kept
_PLACE = "00000000-0000-0000-0000-000000000000"  # of a dispatch's id; the first of all texts
_TEXT = json.JSONEncoder(ensure_ascii=False)


@dataclass(frozen=True)
class Moments:
    """When requests that were asked together began, were collected and predicted, and the seconds between."""

    began: datetime
    collected: datetime
    predicted: datetime
    collect_s: float
    infer_s: float


@dataclass(frozen=True)
class Run:
    """One request that was answered; `first_key` and `last_key` are those of its rows."""

    dispatch_id: str
    user: str | None
    rows: int
    first_key: Mapping[str, Any] | None
    last_key: Mapping[str, Any] | None
    report: InferReport


class RunRecords:
    """Makes the records of runs of one loaded model with rows of one schema; used in one process."""

    def __init__(
        self, model: ModelConfig, version: ModelVersion | None, process: ModelProcess, rows: pa.Schema
    ) -> None:
        """Raises `EventStoreError` if the model's name cannot be stored."""
        beginning(DispatchIdentity("", model.name, "showroom"))
        uri = model.model.uri if version is None else version.fixed_uri
        registered = None
        if version is not None:
            registered = RegisteredVersion(version.name, version.version, version.alias, version.run_id)
        self.libraries = dict(process.libraries)
        self._model = model.name
        self._sha256, self._config = process.artifact_sha256, model.config_hash()
        self._uri = masked(uri)
        columns = [{"name": field.name, "type": str(field.type)} for field in rows]
        self._columns = json.dumps(columns, ensure_ascii=False)
        self._started = _written(TryStart(ProcessIdentity.current()))
        self._signature, self._registered = process.signature_sha256, registered
        logged = write_details(LogEntry(None, columns, {}, {}, self._sha256, uri, self._config, ROWS_GIVEN))
        others = {name: part for name, part in logged.items() if name not in ("first_key", "last_key")}
        self._logged = json.dumps(others, ensure_ascii=False).removesuffix("}")
        self._beginning = functools.lru_cache(_MOST_USERS)(self._write_beginning)
        self._libraries = json.dumps(write_details(InferReport(0, libraries=self.libraries))["libraries"])

    def whole(self, run: Run, moments: Moments) -> WholeDispatch:
        """The dispatch of a run, and its events in order."""
        user = run.user and clean(run.user, NAME_CHARS)
        begin, end = self._beginning(user)
        first = _TEXT.encode(plain(run.first_key))
        last = first if run.last_key == run.first_key else _TEXT.encode(plain(run.last_key))
        predicted, rejected = run.report.rows, run.report.rows_rejected
        of_counts = _of_counts(run.rows, predicted, rejected)
        began, collected, ended = moments.began, moments.collected, moments.predicted
        events = (
            Happened(None, "started", began, f"{begin}{run.dispatch_id}{end}"),
            Happened("collect", "started", began, self._started, _TRY),
            Happened("collect", "succeeded", collected, of_counts.collect, _TRY, run.rows, moments.collect_s),
            Happened("log", "started", collected, self._started, _TRY),
            Happened("log", "logged", collected, self._entry(first, last), None, run.rows),
            Happened("log", "succeeded", collected, self._log_report(run.rows), _TRY, run.rows, 0.0),
            Happened("infer", "started", collected, self._started, _TRY),
            Happened(
                "infer", "succeeded", ended, self._infer_report(run.report), _TRY, predicted, moments.infer_s
            ),
            Happened("persist", "started", ended, self._started, _TRY),
            Happened("persist", "succeeded", ended, of_counts.persist, _TRY, 0, 0.0),
            Happened(None, "succeeded", ended, of_counts.final),
        )
        written = {"columns": self._columns}
        if run.first_key is not None:
            written |= {"first_key": first, "last_key": last}
        return WholeDispatch(self._record(user, run, moments), events, written)

    def _write_beginning(self, user: str | None) -> tuple[str, str]:
        """What stands before and behind the dispatch's id in the details of its beginning."""
        identity = DispatchIdentity(_PLACE, self._model, "showroom", user, dry_run=True)
        text = _TEXT.encode(plain(identity.to_json()))
        begin, _, end = text.partition(_PLACE)
        return begin, end

    def _record(self, user: str | None, run: Run, moments: Moments) -> DispatchRecord:
        return DispatchRecord(
            dispatch_id=run.dispatch_id,
            model=self._model,
            origin="showroom",
            requested_by=user,
            dag_id=None,
            run_id=None,
            data_interval_start=None,
            data_interval_end=None,
            dry_run=True,
            state="succeeded",
            created_at=moments.began,
            updated_at=moments.predicted,
            started_at=moments.began,
            finished_at=moments.predicted,
            tries=_TRY,
            rows_collected=run.rows,
            rows_predicted=run.report.rows,
            rows_rejected=run.report.rows_rejected,
            rows_persisted=0,
            rows_superseded=0,
            artifact_sha256=self._sha256,
            artifact_uri=self._uri,
            config_sha256=self._config,
            query=ROWS_GIVEN,
        )

    def _entry(self, first: str, last: str) -> str:
        return f'{self._logged}, "first_key": {first}, "last_key": {last}}}'

    def _log_report(self, rows: int) -> str:
        return _written(LogReport(rows, self._sha256, self._config, self._signature, self._registered))

    def _infer_report(self, report: InferReport) -> str:
        if report.reasons or report.imputed or report.distribution is None:
            return json.dumps(write_details(report), ensure_ascii=False)
        return (
            f'{{"rows": {report.rows}, "rows_rejected": {report.rows_rejected}, "reasons": [], '
            f'"imputed": {{}}, "distribution": {_distribution(report.distribution)}, '
            f'"libraries": {self._libraries}}}'
        )


@dataclass(frozen=True)
class _OfCounts:
    """The details that only counts of rows decide, as JSON."""

    collect: str
    persist: str
    final: str


@functools.lru_cache
def _of_counts(collected: int, predicted: int, rejected: int) -> _OfCounts:
    accounts = Accounts(collected, predicted, rejected, 0)
    return _OfCounts(
        _written(CollectReport(collected)),
        _written(PersistReport(accounts, Place(shown=predicted))),
        _written(FinalCounts(collected, predicted, rejected, 0)),
    )


@functools.lru_cache(maxsize=1024)
def _written(details: Details) -> str:
    return json.dumps(write_details(details), ensure_ascii=False, allow_nan=False)


@functools.lru_cache(maxsize=1024)
def _distribution(counts: Counts) -> str:
    return json.dumps(write_details(InferReport(0, distribution=counts))["distribution"], ensure_ascii=False)
