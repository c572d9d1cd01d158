"""What the caller of a model and the model's process say to each other; `process` and `worker` use it.

The process runs the model's code, so the caller does not trust what arrives: sizes are bounded before
memory is taken, an answer repeats the number of its request, and columns are rebuilt from plain buffers and
validated in full before a value is read. Requests come from the caller, so they may hold Arrow IPC streams,
in the body or, if they are long, in memory that the caller hands over (see `row_memory`).

Only the caller has pydantic: a model's own environment need not.
"""

from __future__ import annotations

import contextlib
import functools
import json
import select
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

if TYPE_CHECKING:
    import pyarrow as pa
    from pydantic import ConfigDict, TypeAdapter

_FRAME = struct.Struct(
    "!4sQIQ"
)  # magic, number of the request (at random), bytes of the header, bytes of the body
_MAGIC = b"mlp1"
MAX_HEADER_BYTES = 4 << 20  # names of features and outputs, or an error's text
MAX_REQUEST_BYTES = 1 << 40  # the caller is trusted
MAX_SIGNATURE_BYTES = 64 << 20
_SMALL_BYTES = 1 << 16  # a body is sent and received in one piece with its header
_SMALL_HEADER_BYTES = 1 << 10
_REMEMBERED = 64  # headers of answers
_ALIGNED_BYTES = 8  # of a body in memory, as of the numbers in it


class MessageError(Exception):
    """A message is malformed, too large, late, or not the answer to what was asked."""


class _Message:
    __pydantic_config__: ClassVar[ConfigDict] = {"extra": "forbid", "strict": True}


@dataclass(frozen=True)
class Column(_Message):
    """One column of a model's answers. `metadata`: of its Arrow field."""

    name: str
    type: str
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load(_Message):
    """Load this artifact; the first request. `artifact` is an `ArtifactConfig` as JSON has it.

    `must_be_confined`: refuse to load it where the kernel cannot confine the process in every way. `is_step`:
    for a step of a dispatch, which asks golden rows itself and computes on all threads. `is_unsigned`: by the
    rules for a model without a signature, whatever lies beside it.
    """

    artifact: dict[str, Any]
    features: list[str] | None
    must_be_confined: bool
    timeout_s: float
    is_step: bool = False
    is_unsigned: bool = False
    kind: Literal["load"] = "load"


@dataclass(frozen=True)
class _Rows(_Message):
    """A request about rows: an Arrow IPC stream in the body, or `shared_bytes` of it in shared memory.

    `memory`: in which one; a memory that is handed over takes the place of the one of that number.
    """

    timeout_s: float
    shared_bytes: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Predict(_Rows):
    """Answer the rows. A stream in the body has the schema of this number; a bare batch is read by it."""

    schema_number: int = 0
    is_bare: bool = False
    kind: Literal["predict"] = "predict"


@dataclass(frozen=True)
class Learn(_Rows):
    """Learn from the rows, if there are any, with which columns the model answers."""

    kind: Literal["learn"] = "learn"


@dataclass(frozen=True)
class Check(_Rows):
    """Say what the model has against rows of this schema."""

    kind: Literal["check"] = "check"


@dataclass(frozen=True)
class Sign(_Message):
    """Write a signature with the rows in the body, and read by it from now on.

    The body is an Arrow IPC stream if `is_stream`, else pickled `TrainingRows`.
    """

    timeout_s: float
    synthetic: bool
    is_stream: bool = False
    kind: Literal["sign"] = "sign"


@dataclass(frozen=True)
class Loaded(_Message):
    """The model is loaded. `confinement`: what the process can no longer do, in words; empty if it can do
    all. `modules`: the libraries that it uses, see `signature.versions`."""

    artifact_sha256: str
    signature_sha256: str | None
    features: list[str]
    confinement: list[str]
    modules: list[str] = field(default_factory=list)
    kind: Literal["loaded"] = "loaded"


@dataclass(frozen=True)
class Learned(_Message):
    """The columns with which the model answers, as far as it is known by now."""

    outputs: list[Column]
    is_certain: bool
    kind: Literal["learned"] = "learned"


@dataclass(frozen=True)
class Checked(_Message):
    """The model has nothing against such rows. `undecided`: see `Runtime`."""

    undecided: list[str]
    kind: Literal["checked"] = "checked"


@dataclass(frozen=True)
class Predicted(_Message):
    """The body holds so many rows. `buffers`: bytes of each buffer of each column, None if it has none.

    `keeps_rows`: the model still holds the rows that it was asked about.
    """

    rows: int
    buffers: list[list[int | None]]
    keeps_rows: bool = False
    kind: Literal["predicted"] = "predicted"


@dataclass(frozen=True)
class Signed(_Message):
    """The body holds the signature's file."""

    kind: Literal["signed"] = "signed"


@dataclass(frozen=True)
class Failed(_Message):
    """What was asked raised this; the process goes on. `cause`: the traceback of what the model raised."""

    error: str
    message: str
    cause: str = ""
    kind: Literal["failed"] = "failed"


RowsRequest = Check | Learn | Predict
Request = Load | RowsRequest | Sign
Answer = Loaded | Learned | Checked | Predicted | Signed | Failed
_REQUESTS: dict[str, type[Request]] = {kind.kind: kind for kind in (Load, Check, Learn, Predict, Sign)}


@functools.cache
def _answers() -> TypeAdapter[Answer]:
    from pydantic import Field, TypeAdapter

    return TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def _read_answer(header: bytes) -> Answer:
    return _answers().validate_json(header)


# Of answers about a few rows, one is like the other.
_read_small_answer = functools.lru_cache(_REMEMBERED)(_read_answer)


class Channel:
    """One end of the socket between the two processes. `deadline` is in seconds of `time.monotonic`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def send(
        self,
        number: int,
        message: Request | Answer,
        body: Sequence[bytes | memoryview] = (),
        deadline: float = 0,
        handing: Sequence[int] = (),
    ) -> None:
        """Send one message, and file descriptors `handing` with it.

        Raises `OSError` if the other end is gone or does not take it in time.
        """
        header = json.dumps(message, default=vars).encode()
        parts = [memoryview(part).cast("B") for part in body]
        size = sum(part.nbytes for part in parts)
        first = _FRAME.pack(_MAGIC, number, len(header), size) + header
        if size <= _SMALL_BYTES:
            first, parts = b"".join((first, *parts)), []
        if handing:
            self._limit(deadline)
            first = first[socket.send_fds(self._socket, [first], handing) :]
            self._end_limit(deadline)
        for part in (memoryview(first), *parts):
            if not part.nbytes:  # to send nothing fails once the other end has gone, who may have it all
                continue
            with contextlib.suppress(BlockingIOError):  # one call, if the other end has room for it
                part = part[self._socket.send(part, socket.MSG_DONTWAIT) :]
            if not part.nbytes:
                continue
            self._limit(deadline)
            self._socket.sendall(part)
            self._end_limit(deadline)

    def receive_request(self) -> tuple[int, Request, memoryview, list[int]]:
        """The next request, however long it takes, and the descriptors that came with it.

        Raises `EOFError` once the caller has hung up.
        """
        first, handed, _, _ = socket.recv_fds(self._socket, _FRAME.size, 1)
        if not first:
            raise EOFError
        number, header, body = self._receive(0, MAX_REQUEST_BYTES, first)
        fields = json.loads(bytes(header))
        return number, _REQUESTS[fields["kind"]](**fields), body, handed

    def receive_answer(self, number: int, max_body_bytes: int, deadline: float) -> tuple[Answer, memoryview]:
        """The answer to request `number`. Raises `MessageError`, or `EOFError` if the process has ended."""
        found, header, body = self._receive(deadline, max_body_bytes)
        if found != number:
            raise MessageError(f"the answer to request {number} is marked as one to request {found}")
        try:
            read = _read_small_answer if len(header) < _SMALL_HEADER_BYTES else _read_answer
            return read(bytes(header)), body
        except ValueError as error:
            raise MessageError(f"the answer is malformed: {str(error).splitlines()[0]}") from error

    def has_answer(self, seconds: float) -> bool:
        """Whether something arrives within the time (or the other end hangs up)."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        self._socket.close()

    def _receive(
        self, deadline: float, max_body_bytes: int, first: bytes = b""
    ) -> tuple[int, memoryview, memoryview]:
        frame = first + bytes(self._read(_FRAME.size - len(first), deadline))
        magic, number, header_bytes, body_bytes = _FRAME.unpack(frame)
        if magic != _MAGIC:
            raise MessageError("the bytes received are not a message")
        if header_bytes > MAX_HEADER_BYTES or body_bytes > max_body_bytes:
            raise MessageError(
                f"a message of {header_bytes} + {body_bytes} bytes is larger than {MAX_HEADER_BYTES} + "
                f"{max_body_bytes} bytes"
            )
        if body_bytes > _SMALL_BYTES:
            return number, self._read(header_bytes, deadline), self._read(body_bytes, deadline)
        padding = -header_bytes % _ALIGNED_BYTES
        both = self._read(header_bytes + body_bytes, deadline, padding)
        return number, both[:header_bytes], both[header_bytes:]

    def _read(self, count: int, deadline: float, padding: int = 0) -> memoryview:
        content = memoryview(bytearray(padding + count))[padding:]
        filled, flags = 0, int(socket.MSG_DONTWAIT)
        while filled < count:
            if not flags:
                self._limit(deadline)
            try:
                received = self._socket.recv_into(content[filled:], min(count - filled, 1 << 20), flags)
            except BlockingIOError:
                flags = 0  # the rest has not come yet
                continue
            except TimeoutError as error:
                raise MessageError("the answer began, but did not end in time") from error
            if not received:
                raise EOFError
            filled += received
        if not flags:
            self._end_limit(deadline)
        return content

    def _limit(self, deadline: float) -> None:
        """Let the next call of the socket take until the deadline; 0 is none."""
        if deadline:
            left = deadline - time.monotonic()
            if left <= 0:
                raise MessageError("the answer did not end in time")
            self._socket.settimeout(left)

    def _end_limit(self, deadline: float) -> None:
        """Else a call that is not to wait would wait so long: that of the next message has its own limit."""
        if deadline:
            self._socket.settimeout(None)


def describe_outputs(schema: pa.Schema) -> list[Column]:
    """The columns of a model's answers as a message holds them."""
    return [
        Column(
            name=field.name,
            type=str(field.type),
            metadata={key.decode(): value.decode() for key, value in (field.metadata or {}).items()},
        )
        for field in schema
    ]


def pack_columns(batch: pa.RecordBatch) -> tuple[Predicted, list[memoryview]]:
    """Rows as plain buffers, column by column."""
    import pyarrow as pa

    sizes, body = [], []
    for column in batch.columns:
        # A slice keeps the buffers of the whole; a copy has its own, from offset 0 on.
        whole = pa.concat_arrays([column, column.slice(0, 0)]) if column.offset else column
        buffers = whole.buffers()
        sizes.append([None if buffer is None else buffer.size for buffer in buffers])
        body += [memoryview(buffer) for buffer in buffers if buffer is not None]
    return Predicted(rows=batch.num_rows, buffers=sizes), body


def unpack_columns(schema: pa.Schema, rows: int, answer: Predicted, body: memoryview) -> pa.RecordBatch:
    """The rows of an answer, validated in full. Raises `MessageError` for any that are not as announced."""
    import pyarrow as pa

    if answer.rows != rows or len(answer.buffers) != len(schema):
        raise MessageError(
            f"the model answers {rows} rows with {len(answer.buffers)} columns of {answer.rows}; "
            f"expected {len(schema)} columns"
        )
    sizes = [size for column in answer.buffers for size in column if size is not None]
    if any(size < 0 for size in sizes) or sum(sizes) != body.nbytes:
        raise MessageError("the sizes of the answer's columns do not add up")
    arrays, start = [], 0
    for announced, lengths in zip(schema, answer.buffers, strict=True):
        buffers: list[pa.Buffer | None] = []
        for length in lengths:
            buffers.append(None if length is None else pa.py_buffer(body[start : start + length]))
            start += length or 0
        arrays.append(_array(announced, rows, buffers))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(field: pa.Field, rows: int, buffers: list[pa.Buffer | None]) -> pa.Array:
    import pyarrow as pa
    import pyarrow.compute

    if not rows:
        return pa.array([], field.type)
    try:
        if len(buffers) != field.type.num_buffers:
            raise pa.ArrowInvalid(f"{len(buffers)} buffers, expected {field.type.num_buffers}")
        # Only the first buffer, of NULLs, may be missing; a text column without a character has no third one.
        whole = [buffers[0], *(pa.py_buffer(b"") if buffer is None else buffer for buffer in buffers[1:])]
        array = pa.Array.from_buffers(field.type, rows, whole)
        array.validate(full=True)
        if pa.types.is_temporal(field.type):
            pa.compute.min_max(array).as_py()  # Arrow's times go further than Python's
    except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
        raise MessageError(f"the model's column '{field.name}' is malformed: {error}") from error
    return array
