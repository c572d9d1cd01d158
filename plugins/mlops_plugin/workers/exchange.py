"""The caller's end of what is sent to a model's process; `process` asks with it.

A request has a number that its answer repeats, and one deadline for both. Whatever goes wrong ends the
process: what it sends next could be the answer to an old request.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa

from mlops_plugin.arrow_values import array_of
from mlops_plugin.errors import ServingError
from mlops_plugin.formats.outputs import CLASSES
from mlops_plugin.workers.failures import raised
from mlops_plugin.workers.messages import (
    Answer,
    Channel,
    Checked,
    Column,
    Failed,
    Learned,
    Loaded,
    MessageError,
    Predicted,
    Request,
    RowsRequest,
    Signed,
)
from mlops_plugin.workers.patience import Patience
from mlops_plugin.workers.process_limits import Limits
from mlops_plugin.workers.row_memory import SMALLEST_BYTES, Lent, RowMemories, is_supported, stream_size
from mlops_plugin.workers.starting import END_TIMEOUT_S, MOST_THREADS, Started

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig

# The types in which a model may answer. Nested and dictionary types are never sent.
_TYPES = ("bool", "int32", "int64", "float", "double", "string", "large_string", "binary", "date32[day]")
_OUTPUT_NAME = re.compile(r"(prediction|probability|score)(_.*)?", re.DOTALL)
_NUMBER_BITS = 64
_TEXT_BYTES = 4096  # room for each value of a type without a fixed width
_SLACK_BYTES = 1 << 20
# Raised for a precision or a time zone that there is not, a folder of zones, classes that are none.
_INVALID = (pa.ArrowException, ValueError, LookupError, TypeError, OverflowError, RecursionError, OSError)


@dataclass(frozen=True)
class Sent:
    """A request that was sent. `lent` holds its rows, if that is not the message itself."""

    number: int
    deadline: float  # seconds of `time.monotonic`
    lent: Lent | None


@dataclass
class Exchange:
    """A process and the requests to it. Used by one caller at a time.

    `tell` hears what the model prints, up to a limit.
    """

    model: ModelConfig
    limits: Limits
    tell: Callable[[str], None] | None = None
    is_ended: bool = False
    calls: int = 0  # how often the process was asked something
    _is_released: bool = False
    _patience: Patience = field(default_factory=Patience)
    _memories: RowMemories = field(default_factory=RowMemories)
    _sent: int = 0  # requests without an answer
    _located: str = ""  # where the process finds the artifact
    _process: Started | None = None
    _held: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def _name(self) -> str:
        return f"models.{self.model.name}"

    @property
    def pid(self) -> int:
        return self._started.child.pid

    @property
    def _started(self) -> Started:
        assert self._process is not None  # noqa: S101 - `load` comes first
        return self._process

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory now; None once it has ended."""
        return self._started.memory_bytes()

    @contextlib.contextmanager
    def used_with(self, patience: Patience) -> Iterator[None]:
        """While inside, the caller has this patience with the model."""
        self._patience = patience
        try:
            yield
        finally:
            self._patience = Patience()
            if self._sent:  # an answer that nobody waits for any more
                self.end()

    def kill(self) -> None:
        """End the process, whatever it is doing; also from another thread than the one that uses it."""
        self.is_ended = True
        if self._process is not None:
            self._process.kill()

    def end(self) -> None:
        """End the process and release what it held; for the caller that uses it."""
        self.kill()
        self._is_released = True
        self._sent = 0
        if self._process is not None:
            self._process.release()
            self._channel.close()
        self._memories.release()
        self._held.close()

    def _begin(self, process: Started) -> None:
        """Talk to this process from now on."""
        self._process = process
        self._channel = Channel(process.socket)
        if self.is_ended:  # another thread has killed it before it was there
            self.end()
            raise ServingError(self._describe_exit())

    def _shared_size(self, rows: pa.RecordBatch) -> int | None:
        """Bytes that these rows take in shared memory; None if the message carries them."""
        if rows.get_total_buffer_size() < SMALLEST_BYTES // 2 or not is_supported():
            return None
        size = stream_size(rows)
        return None if size < SMALLEST_BYTES else size

    def _send_shared(self, request: RowsRequest, rows: pa.RecordBatch, size: int) -> Sent:
        lent = self._memories.lend(rows, size)
        shared = replace(request, shared_bytes=size, memory=lent.number)
        return self._send(shared, [], lent)

    def _send(self, request: Request, body: Sequence[memoryview], lent: Lent | None = None) -> Sent:
        """Send a request; it and its answer have one deadline."""
        # Not the next number: the process could have written an answer to that one already.
        number = secrets.randbits(_NUMBER_BITS)
        with self._whole():
            deadline = time.monotonic() + request.timeout_s
            if request.timeout_s <= 0:
                raise TimeoutError
            self.calls += 1
            self._channel.send(number, request, body, deadline, () if lent is None else lent.handing)
        self._sent += 1
        return Sent(number, deadline, lent)

    def _receive(self, sent: Sent, max_bytes: int) -> tuple[Answer, memoryview]:
        """Receive the answer to the request that was sent first of those that have none."""
        is_free = False
        try:
            with self._whole():
                if not self._patience.wait(self._channel.has_answer, sent.deadline - time.monotonic()):
                    raise TimeoutError
                answer, content = self._channel.receive_answer(sent.number, max_bytes, sent.deadline)
            self._sent -= 1
            is_free = isinstance(answer, Predicted) and not answer.keeps_rows
        finally:
            if sent.lent is not None:
                self._memories.take_back(sent.lent, is_free=is_free)
        if isinstance(answer, Failed):
            message = answer.message.replace(self._located, self.model.model.uri)
            raise raised(self.model.name, replace(answer, message=message), self.limits)
        return answer, content

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """Whatever goes wrong, kill the process: what it sends next could be the answer to an old request."""
        try:
            yield
        except TimeoutError as error:
            self.end()
            raise ServingError(f"{self._name}: {self.limits.too_slow}") from error
        except MessageError as error:
            self.end()
            raise ServingError(
                f"{self._name}: {error}; the model's process was killed, and the next run starts a new one"
            ) from error
        except (OSError, EOFError) as error:
            raise ServingError(self._describe_exit()) from error
        except BaseException:
            self.end()
            raise

    def _describe_exit(self) -> str:
        """How the process ended, and its last words."""
        if self._is_released:
            return f"{self._name}: the model's process was killed; try again"
        how = self._started.describe_end()
        self.end()
        if exceeded := self._started.exceeded:
            of_threads = f"starts more than {MOST_THREADS} threads"
            found = self.limits.too_large if exceeded == "memory" else of_threads
            return f"{self._name}: the model {found}; its process was killed"
        line = self._started.output.last_line(END_TIMEOUT_S)
        words = f"; it printed last: {line}" if line else ""
        return f"{self._name}: the model's process ended with {how}{words}; {self._what_follows(how)}"

    def _what_follows(self, _how: str) -> str:
        """The advice for who hears that the process has ended so."""
        return self.limits.ended


_Expected = TypeVar("_Expected", Loaded, Learned, Checked, Predicted, Signed)


def expect(kind: type[_Expected], answer: Answer) -> _Expected:
    """The answer, if it is of this kind; raises `MessageError`."""
    if not isinstance(answer, kind):
        raise MessageError(f"the process sent an answer of kind '{answer.kind}' to another request")
    return answer


@functools.lru_cache
def max_answer_bytes(schema: pa.Schema, rows: int) -> int:
    """So many bytes an answer about so many rows may have."""
    widths = (_width(field.type) + 1 for field in schema)
    return _SLACK_BYTES + rows * sum(widths)


def _width(kind: pa.DataType) -> int:
    try:
        return max(1, int(kind.bit_width) // 8)
    except ValueError:
        return _TEXT_BYTES


def outputs_schema(columns: Sequence[Column]) -> pa.Schema:
    """The schema that a process has announced.

    Raises `MessageError` for a type that no model answers in, for a name that is no prediction's (it could be
    that of a key, or of the column that says where a prediction comes from), and for metadata that are no
    classes: some make Arrow read a column as another type.
    """
    names = [column.name for column in columns]
    if not names or len({*names}) < len(names) or not all(map(_OUTPUT_NAME.fullmatch, names)):
        raise MessageError(f"the model announces answers called {', '.join(names) or 'nothing'}")
    if unknown := {column.type for column in columns if not is_sendable(column.type)}:
        raise MessageError(f"the model announces answers of type {', '.join(sorted(unknown))}")
    try:
        fields = [pa.field(one.name, _type_of(one.type), metadata=one.metadata or None) for one in columns]
        for field, column in zip(fields, columns, strict=True):
            _require_classes(column.metadata, field.type)
    except _INVALID as error:
        raise MessageError(f"the model announces invalid answers: {error}") from error
    return pa.schema(fields)


def _require_classes(metadata: Mapping[str, str], kind: pa.DataType) -> None:
    """Raise `ValueError` or the like unless these are a list of values of this type, or nothing."""
    if not metadata:
        return
    if {*metadata} != {CLASSES.decode()}:
        raise ValueError(f"metadata {', '.join(metadata)[:100]}")
    classes = json.loads(metadata[CLASSES.decode()])
    if not isinstance(classes, list) or not all(isinstance(one, str | int | float) for one in classes):
        raise ValueError("classes that are no list of labels")
    array_of([str(label) if pa.types.is_string(kind) else label for label in classes], kind)


def is_sendable(kind: str) -> bool:
    """Whether a column of this Arrow type can be an answer."""
    return kind in _TYPES or kind.startswith(("timestamp[", "decimal128("))


def _type_of(kind: str) -> Any:
    if timestamp := re.fullmatch(r"timestamp\[(s|ms|us|ns)(?:, tz=([\w/+:-]+))?\]", kind):
        kind = pa.timestamp(timestamp[1], timestamp[2])
        pa.scalar(0, kind).as_py()
        return kind
    if decimal := re.fullmatch(r"decimal128\((\d{1,2}), (\d{1,2})\)", kind):
        return pa.decimal128(int(decimal[1]), int(decimal[2]))
    if kind in _TYPES:
        return pa.type_for_alias(kind.partition("[")[0])
    raise MessageError(f"the model announces answers of type {kind}")
