"""One model in a process of its own, with a limit on time and memory; `workers.pool` keeps these."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops_plugin.environments.location import Environment
from mlops_plugin.errors import ArtifactError, MlopsError
from mlops_plugin.formats.artifact import sha256_of
from mlops_plugin.formats.runtime import LEARNED_ROWS
from mlops_plugin.formats.signature.signature import signature_sha256
from mlops_plugin.formats.signature.versions import PYTHON, versions_of
from mlops_plugin.workers.confinement import WHOLE
from mlops_plugin.workers.exchange import Exchange, Sent, expect, max_answer_bytes, outputs_schema
from mlops_plugin.workers.messages import (
    MAX_SIGNATURE_BYTES,
    Answer,
    Check,
    Checked,
    Learn,
    Learned,
    Load,
    Loaded,
    Predict,
    Predicted,
    RowsRequest,
    Sign,
    Signed,
    unpack_columns,
)
from mlops_plugin.workers.row_memory import (
    AT_ONCE,
    stream_bytes,
)
from mlops_plugin.workers.starting import local_artifact, start

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig
    from mlops_plugin.formats.signature.signing import TrainingRows

_log = logging.getLogger(__name__)

_NUMBER_BITS = 64
_NO_BODY = 0  # of an answer to anything but `predict`
_NO_ROWS = pa.RecordBatch.from_pylist([], schema=pa.schema([]))
_MOST_MODULES = 20  # that a model's process may name


@dataclass(eq=False)
class _Ahead:
    """Rows that the model was asked about ahead, and the answer if it came before its turn."""

    rows: pa.RecordBatch
    sent: Sent
    answer: tuple[Answer, memoryview] | MlopsError | None = None


@dataclass
class ModelProcess(Exchange):
    """A `Runtime` whose model lives in another process. Used by one caller at a time.

    `confinement`: what the process can no longer reach, in words (see `workers.confinement`). `is_unsigned`:
    see `Load`.
    """

    is_unsigned: bool = False
    artifact_sha256: str = ""
    signature_sha256: str | None = None
    features: tuple[str, ...] = ()
    confinement: tuple[str, ...] = ()
    packages: Mapping[str, str] | None = None  # of the model's own environment
    libraries: Mapping[str, str] = field(default_factory=dict)
    load_seconds: float = 0.0
    _outputs: pa.Schema | None = None
    _ahead: list[_Ahead] = field(default_factory=list)
    undecided: tuple[str, ...] = ()
    _sent_schema: pa.Schema | None = None  # by which the process reads bare batches
    _schemas_sent: int = 0  # how many
    _checked: pa.Schema | None = None  # the schema of rows that the process has checked last

    def load(self) -> None:
        """Start the process and load the model.

        Raises what loading raises, `EnvironmentUnusable` if the model's environment is not there, or
        `ServingError`.
        """
        with local_artifact(self.model.model) as path:
            self._start(path)

    @property
    def outputs(self) -> pa.Schema:
        """The columns that the model answers with."""
        if self._outputs is None:
            self._learn(_NO_ROWS, self.limits.answer_s)
        return self._outputs

    def check(self, rows: pa.Schema) -> None:
        """Raise what the model has against rows of this schema: it is asked about none of them."""
        if self._checked is not None and self._checked.equals(rows):
            return
        none = self._known(pa.RecordBatch.from_pylist([], schema=rows))
        answer, _ = self._ask(Check(timeout_s=self.limits.answer_s), none)
        with self._whole():
            self.undecided = tuple(expect(Checked, answer).undecided)
        self._checked = rows

    def learn_outputs(self, rows: pa.RecordBatch) -> bool:
        """Learn from some rows with which columns the model answers; returns whether that is certain."""
        if rows.num_rows == 0:
            return False
        self._checked = None
        return self._learn(self._known(rows.slice(0, LEARNED_ROWS)), self.limits.answer_s)

    def _learn(self, rows: pa.RecordBatch, timeout_s: float) -> bool:
        answer, _ = self._ask(Learn(timeout_s=timeout_s), rows)
        with self._whole():
            learned = expect(Learned, answer)
            self._outputs = outputs_schema(learned.outputs)
        return learned.is_certain

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """One prediction per row. Raises what the model's runtime raises, or `ServingError`."""
        outputs = self.outputs
        self._checked = None
        if (ahead := next((each for each in self._ahead if each.rows is rows), None)) is not None:
            answer, body = self._answer_ahead(ahead)
        else:
            request = Predict(timeout_s=self.limits.answer_s)
            most = max_answer_bytes(outputs, rows.num_rows)
            answer, body = self._ask(request, self._known(rows), most)
        with self._whole():
            predicted = expect(Predicted, answer)
            self._checked = rows.schema  # the process checks it, too
            return unpack_columns(outputs, rows.num_rows, predicted, body)

    def ask_ahead(self, rows: pa.RecordBatch) -> None:
        """Let the model begin with rows that `predict` gets next, these very ones; that raises what is wrong.

        Not with few: the process may be sending, so nothing is sent that the socket might not hold.
        """
        if self._outputs is None or len(self._ahead) == AT_ONCE:
            return
        known = self._known(rows)
        if (size := self._shared_size(known)) is not None:
            request = Predict(timeout_s=self.limits.answer_s)
            self._ahead.append(_Ahead(rows, self._send_shared(request, known, size)))

    def sign(self, rows: TrainingRows, *, synthetic: bool) -> bytes:
        """Have a signature written, as its file holds it; from now on the model is asked by it."""
        # Another pandas could not read what this one has pickled: it gets the rows as those of a query.
        is_stream = self.packages is not None
        request = Sign(timeout_s=self.limits.answer_s, synthetic=synthetic, is_stream=is_stream)
        body = stream_bytes(rows.batch) if is_stream else pickle.dumps(rows)
        self._outputs = self._checked = None
        answer, written = self._receive(self._send(request, [memoryview(body)]), MAX_SIGNATURE_BYTES)
        with self._whole():
            expect(Signed, answer)
        return bytes(written)

    def _what_follows(self, how: str) -> str:
        if self.artifact_sha256 or how not in _CRASHES:  # it was loaded, or not ended by native code
            return self.limits.ended
        return (
            f"it was loading {self.model.model.uri}, which may be damaged: copy it again, or save the model "
            "again"
        )

    def _answer_ahead(self, wanted: _Ahead) -> tuple[Answer, memoryview]:
        self._hear_ahead(wanted)
        self._ahead.remove(wanted)
        assert wanted.answer is not None  # noqa: S101 - it was heard just now
        if isinstance(wanted.answer, MlopsError):
            raise wanted.answer
        return wanted.answer

    def _hear_ahead(self, last: _Ahead | None = None) -> None:
        """Receive the answers that are under way, in their order, up to the last that is wanted."""
        for each in [*self._ahead]:
            if each.answer is None:
                try:
                    each.answer = self._receive(each.sent, max_answer_bytes(self.outputs, each.rows.num_rows))
                except MlopsError as error:
                    if self.is_ended:
                        raise
                    each.answer = error
            if each is last:
                return

    def _known(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        # The model has no use for other columns, and they may be large.
        wanted = set(self.features)
        names = [name for name in rows.schema.names if name in wanted]
        return rows.select(names) if len(names) == len(wanted) == len({*names}) else rows

    def _start(self, artifact: Path | None) -> None:
        own = Environment.of(self.model)
        if own is not None:
            described = self._held.enter_context(own.used())
            self.packages = {**described.packages, PYTHON: described.python}
        try:
            self._process = start(self.limits, self.tell, None if own is None else own.python)
        except BaseException:
            self._held.close()
            raise
        self._begin(self._process)
        started = time.monotonic()
        found = self.model.model
        located = found if artifact is None else found.model_copy(update={"uri": str(artifact)})
        self._located = located.uri
        try:
            request = Load(
                artifact={**located.as_data(), "logged": None if own is None else _logged(located)},
                features=None if self.model.features is None else list(self.model.features),
                must_be_confined=self.limits.must_be_confined,
                is_step=self.limits.is_step,
                is_unsigned=self.is_unsigned,
                timeout_s=self.limits.load_s,
            )
            sha256 = sha256_of(located)  # while the process starts
            # Whether it is the pinned one, the process says.
            unpinned = located.model_copy(update={"signature_sha256": None})
            signature = None if self.is_unsigned else signature_sha256(unpinned)
            answer, _ = self._receive(self._send(request, []), _NO_BODY)
            with self._whole():
                loaded = expect(Loaded, answer)
            self._require_same_file("artifact", sha256, loaded.artifact_sha256)
            self._require_same_file("signature of", signature or "none", loaded.signature_sha256 or "none")
            self.features = tuple(loaded.features)
            self.libraries = versions_of(loaded.modules[:_MOST_MODULES], self.packages)
            if not self.limits.is_step:
                # Now, while the person waits for loading anyway.
                self._learn(_NO_ROWS, self.limits.load_s - (time.monotonic() - started))
        except BaseException:
            self.end()
            raise
        self.artifact_sha256, self.signature_sha256 = sha256, signature
        self.confinement = tuple(loaded.confinement)
        self.load_seconds = time.monotonic() - started
        if missing := self.missing_confinement:
            _log.warning(
                "%s: this kernel cannot block the model's access to: %s", self._name, ", ".join(missing)
            )

    def _require_same_file(self, which: str, sha256: str, reported: str) -> None:
        """The file may have run code by now: what its process says of it is not believed."""
        if reported != sha256:
            raise ArtifactError(
                f"{self._name}.model: the {which} {self.model.model.uri} changed while it was loaded "
                f"(sha256 {sha256[:12]}..., the process says {reported[:12]}...); try again"
            )

    @property
    def missing_confinement(self) -> list[str]:
        """What the kernel cannot keep the model from, in words."""
        return [each for each in WHOLE if each not in self.confinement]

    def _ask(
        self, request: RowsRequest, rows: pa.RecordBatch, max_bytes: int = _NO_BODY
    ) -> tuple[Answer, memoryview]:
        """Send a request about rows: in shared memory if they are many."""
        self._hear_ahead()
        if (size := self._shared_size(rows)) is not None:
            return self._receive(self._send_shared(request, rows, size), max_bytes)
        if isinstance(request, Predict):
            return self._ask_about_few(request, rows, max_bytes)
        return self._receive(self._send(request, [memoryview(stream_bytes(rows))]), max_bytes)

    def _ask_about_few(
        self, request: Predict, rows: pa.RecordBatch, max_bytes: int
    ) -> tuple[Answer, memoryview]:
        """Send the schema only if the process has not read it yet: it is longer than a row."""
        sent, schema = self._sent_schema, rows.schema
        if sent is not None and sent.equals(schema, check_metadata=True):
            bare = replace(request, schema_number=self._schemas_sent, is_bare=True)
            return self._receive(self._send(bare, [memoryview(rows.serialize())]), max_bytes)
        self._sent_schema = None  # whatever happens, the process may have read another one
        self._schemas_sent += 1
        whole = replace(request, schema_number=self._schemas_sent)
        answer = self._receive(self._send(whole, [memoryview(stream_bytes(rows))]), max_bytes)
        if not any(kind.num_fields or pa.types.is_dictionary(kind) for kind in schema.types):
            self._sent_schema = schema
        return answer


# How native code ends that reads what it should not.
_CRASHES = tuple(f"signal {name}" for name in ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGFPE", "SIGILL"))


def _logged(artifact: ArtifactConfig) -> dict[str, Any] | None:
    """What describes an MLflow model, for a Python that cannot read that; None for any other."""
    if not artifact.may_be_folder:
        return None
    from mlops_plugin.formats.mlflow_models.mlmodel import describe
    from mlops_plugin.formats.mlflow_models.model_files import open_files, read_description

    files = open_files(artifact.uri)
    return describe(artifact.uri, read_description(artifact.uri, files), files.sizes).as_data()
