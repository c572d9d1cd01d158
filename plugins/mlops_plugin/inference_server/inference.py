"""Answers infer requests: those for one model together, each with a dispatch of its own on record.

What goes well together is answered together (`serving.ready_model`). A request that does not is asked alone,
and what fails alone goes through the steps of every dispatch (`serving.run`), which record how it failed.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from fastapi import HTTPException

from mlops_plugin.config.loader import LoadedConfig
from mlops_plugin.config.schema import ModelConfig
from mlops_plugin.errors import EventStoreError, ServingBusy, ServingError
from mlops_plugin.formats.registry.model_version import ModelVersion
from mlops_plugin.formats.registry.registered_models import RegisteredModels
from mlops_plugin.inference_server.batches import WAIT_S
from mlops_plugin.inference_server.group_commit import GroupCommit
from mlops_plugin.inference_server.inference_answers import Answer, Answers, answer_of, require_outputs
from mlops_plugin.inference_server.inference_requests import GivenRows, InferRequest, parse, rows_of
from mlops_plugin.inference_server.model_descriptions import ModelDescription, ModelDescriptions
from mlops_plugin.serving.ready_model import Given, Predicted, ReadyModel
from mlops_plugin.serving.run import Showroom
from mlops_plugin.serving.wanted import Wanted
from mlops_plugin.web.shared_site import Site
from mlops_plugin.workers.pool import ModelPool
from mlops_plugin.workers.process import ModelProcess

_MOST_SCHEMAS = 4  # of one model, for which it is kept ready
_MOST_UNRECORDED = 2  # further ones are not tried: the event store is away


@dataclass(frozen=True)
class Body:
    """The body of a request, the size of its JSON part as the header says it, and the version it wants."""

    content: bytes
    header_length: str | None
    version: str | None


@dataclass(frozen=True)
class Question:
    """A request that was read by a description of its model."""

    model: ModelConfig
    user: str
    body: Body
    described: ModelDescription
    request: InferRequest
    rows: GivenRows

    @classmethod
    def of(cls, model: ModelConfig, user: str, body: Body, described: ModelDescription) -> Question:
        """Raises `CaseError` if the request is none, or does not fit the model."""
        asked = parse(body.content, body.header_length)
        rows = rows_of(asked, model.key, described.features, described.checked)
        require_outputs(asked.request, [output.name for output in described.outputs])
        return cls(model, user, body, described, asked.request, rows)

    @property
    def likeness(self) -> Hashable:
        alone = None if self.described.answers_together else id(self)
        return (id(self.model), id(self.described), self.rows.kind, alone)

    @property
    def size(self) -> int:
        return int(self.rows.batch.num_rows)


class Inference:
    """Shared by the threads of one process."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._ready: dict[str, list[ReadyModel]] = {}
        self._located: dict[str, tuple[ModelConfig, ModelVersion, ModelConfig]] = {}
        self._last_means: _Means | None = None
        self.descriptions = ModelDescriptions()

    @property
    def commits(self) -> int:
        """Transactions so far."""
        return 0 if self._last_means is None else self._last_means.group.commits

    def describe(self, model: ModelConfig, version: str | None) -> ModelDescription:
        """The model's description; loads it if it is not loaded. 404 for another version than the present."""
        described = self.descriptions.describe(model, self._site.model_pool())
        if version not in (None, described.version):
            raise HTTPException(404, f"models.{model.name}: its current version is {described.version}")
        return described

    def answer(self, _model: str, questions: Sequence[Question]) -> Sequence[Answer | Exception]:
        """What each of some requests for one model, which are alike, is answered."""
        found = self._together(questions)
        until = time.monotonic() + WAIT_S
        for place, one in enumerate(questions):
            if found[place] is None and len(questions) > 1:
                # One that keeps the model busy keeps those behind it waiting.
                is_late = time.monotonic() > until
                found[place] = _busy(one) if is_late else self._together([one])[0]
            if found[place] is None:
                found[place] = self._by_steps(one)
        return [one for one in found if one is not None]

    def _together(self, questions: Sequence[Question]) -> list[Answer | Exception | None]:
        """What they are answered if they are asked together; None for one that must be asked otherwise."""
        nothing: list[Answer | Exception | None] = [None] * len(questions)
        means, model = self._means(), questions[0].model
        try:
            predicted = self._ask(means.pool, model, questions)
        except ServingError as error:
            return nothing if len(questions) > 1 else [self._by_steps(questions[0], error)]
        except Exception:  # noqa: BLE001 - whoever is asked alone, and by the steps, hears it
            return nothing
        found = list(nothing)
        answered = [(place, one) for place, one in enumerate(predicted) if one is not None]
        unrecorded = self._record(means.group, [one for _, one in answered])
        for (place, one), unstored in zip(answered, unrecorded, strict=True):
            found[place] = unstored or _encoded(questions[place], one)
        return found

    def _ask(
        self, pool: ModelPool, model: ModelConfig, questions: Sequence[Question]
    ) -> Sequence[Predicted | None]:
        version = pool.find_version(model) if model.model.is_registered else None
        located = model if version is None else self._at_hand(model, version)
        described, baseline = questions[0].described, pool.baseline_sha256(model)
        with pool.runtime(located) as process:
            hashes = (process.artifact_sha256, process.signature_sha256, baseline)
            if hashes != (described.version, described.signature_sha256, described.baseline_sha256):
                return [None] * len(questions)  # it has changed since these were read
            ready = self._ready_for(model, version, process, questions[0].rows.batch, baseline)
            return ready.ask([Given(one.rows.batch, one.user) for one in questions])

    def _at_hand(self, model: ModelConfig, version: ModelVersion) -> ModelConfig:
        known = self._located.get(model.name)
        if known is None or known[0] is not model or known[1] != version:
            registered = RegisteredModels()
            registered.pin(model.model, version)
            known = self._located[model.name] = model, version, registered.at_hand(model)
        return known[2]

    def _ready_for(
        self,
        model: ModelConfig,
        version: ModelVersion | None,
        process: ModelProcess,
        rows: pa.RecordBatch,
        baseline: str | None,
    ) -> ReadyModel:
        """Called by one thread at a time for a model: whoever has its process."""
        kept = self._ready.get(model.name, [])
        for ready in kept:
            if ready.fits(model, version, process, rows.schema, baseline):
                return ready
        ready = ReadyModel.of(model, version, process, rows, baseline)
        usable = [one for one in kept if one.process is process and one.model is model]
        self._ready[model.name] = [ready, *usable][:_MOST_SCHEMAS]
        return ready

    def _record(self, group: GroupCommit, predicted: Sequence[Predicted]) -> list[EventStoreError | None]:
        """Record each; alone if they cannot be recorded together."""
        if not predicted:
            return []
        try:
            group.append([one.whole for one in predicted])
        except EventStoreError as error:
            if len(predicted) == 1:
                return [error]
        else:
            return [None] * len(predicted)
        errors: list[EventStoreError | None] = []
        for one in predicted:
            if len(errors) - errors.count(None) >= _MOST_UNRECORDED:
                # The store's own words may quote what somebody else has asked.
                errors.append(EventStoreError("event store: recording dispatches failed; try again"))
                continue
            try:
                group.append([one.whole])
                errors.append(None)
            except EventStoreError as error:
                errors.append(error)
        return errors

    def _by_steps(self, question: Question, failure: ServingError | None = None) -> Answer | Exception:
        """What one request is answered by the steps of every dispatch; `failure` is what its rows did."""
        try:
            return self._run(question, failure)
        except Exception as error:  # noqa: BLE001 - raised where the request is answered
            return error

    def _run(self, question: Question, failure: ServingError | None) -> Answer:
        body, model, site = question.body, question.model, self._site
        described = self.describe(model, body.version)
        asked = Question.of(model, question.user, body, described)
        store = site.event_store()
        showroom = Showroom(site.deployment(), store, site.model_pool(), site.case_queries, failure)
        table = pa.Table.from_batches([asked.rows.batch])
        shown = showroom.run(model, Wanted(table=table), question.user)
        if shown.artifact_sha256 != described.version:
            raise ServingError(
                f"models.{model.name}: its artifact changed during this request; send it again"
            )
        return answer_of(model.name, asked.request, Answers.of(model.key, shown))

    def _means(self) -> _Means:
        """What answers now; another once the configuration says so."""
        loaded = self._site.loaded()
        last = self._last_means
        if last is None or last.loaded is not loaded:
            store = self._site.event_store()
            group = last.group if last is not None and last.group.store is store else GroupCommit(store)
            last = self._last_means = _Means(loaded, self._site.model_pool(), group)
        return last


@dataclass(frozen=True)
class _Means:
    """By what requests are answered while the configuration is the same."""

    loaded: LoadedConfig
    pool: ModelPool
    group: GroupCommit


def _encoded(question: Question, predicted: Predicted) -> Answer | Exception:
    answers = Answers(
        predicted.dispatch_id,
        question.described.version,
        predicted.rows,
        predicted.predictions,
        predicted.rejections,
    )
    try:
        return answer_of(question.model.name, question.request, answers)
    except Exception as error:  # noqa: BLE001 - raised where the request is answered
        return error


def _busy(question: Question) -> ServingBusy:
    return ServingBusy(f"models.{question.model.name}: the model was busy for {WAIT_S:.0f} s; try again")
