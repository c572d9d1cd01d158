"""A model that forges answers gets its process killed; nobody is ever given another request's answer."""

from __future__ import annotations

import contextlib
import pickle
import socket
import struct
import threading
import time
from collections.abc import Iterator
from hashlib import sha256

import pyarrow as pa
import pytest

from mlops_plugin.config.schema import ModelConfig, ServingConfig
from mlops_plugin.errors import ServingError
from mlops_plugin.formats.signature.versions import versions_of
from mlops_plugin.workers.exchange import outputs_schema
from mlops_plugin.workers.failures import raised
from mlops_plugin.workers.messages import (
    Channel,
    Column,
    Failed,
    MessageError,
    Predicted,
    pack_columns,
    unpack_columns,
)
from mlops_plugin.workers.pool import ModelPool
from mlops_plugin.workers.process_limits import ServingLimits, StepLimits
from support.forging_models import FORGERIES, Forging
from support.workshop import FEATURES, Workshop


@pytest.fixture
def forging(workshop: Workshop) -> ModelConfig:
    content = pickle.dumps(Forging())
    (workshop.folder / "forging.pickle").write_bytes(content)
    artifact = {"format": "pickle", "uri": "forging.pickle", "sha256": sha256(content).hexdigest()}
    workshop.add_model("forging", model=artifact, features=list(FEATURES))
    return workshop.model("forging")


NEVER_END = [
    100.0 + list(FORGERIES).index(forgery) for forgery in ("half a message", "a message byte by byte")
]


@pytest.fixture
def pool() -> Iterator[ModelPool]:
    pool = ModelPool(_limits("120s"))
    yield pool
    pool.close()


def _limits(timeout: str) -> ServingConfig:
    return ServingConfig.model_validate({"timeout": timeout, "memory_mb": 700})


def _ask(pool: ModelPool, model: ModelConfig, value: float) -> tuple[int, list[object]]:
    """Ask the model about a row; wait for an answer that never ends no longer than must be."""
    with pool.runtime(model) as process:
        if value in NEVER_END:
            process.limits = ServingLimits(_limits("2s"))
        answer = process.predict(pa.RecordBatch.from_pylist([{"a": float(value), "b": 0.0, "c": 0.0}]))
        return process.pid, answer.column("prediction").to_pylist()


def test_after_a_forged_answer_the_next_caller_gets_an_own_answer(
    pool: ModelPool, forging: ModelConfig
) -> None:
    for number, forgery in enumerate(FORGERIES):
        try:
            _, answer = _ask(pool, forging, 100 + number)
        except ServingError:
            answer = []
        # A model may answer what it likes to its own caller; the second message must reach nobody.
        assert answer in ([], [666.0]), forgery
        for value in (3.0, 4.0):
            try:
                assert _ask(pool, forging, value)[1] == [value], forgery
            except ServingError:  # the message left over was noticed now
                assert value == 3.0, forgery


def test_a_message_that_never_ends_is_given_up_in_time(pool: ModelPool, forging: ModelConfig) -> None:
    first, _ = _ask(pool, forging, 1)
    with pytest.raises(ServingError):
        _ask(pool, forging, NEVER_END[1])
    assert _ask(pool, forging, 2)[0] != first


def _send_in_pieces(sock: socket.socket, number: int, pause_s: float, pieces: int) -> threading.Thread:
    """Send an answer, slowly, in a thread."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        Channel(ours).send(number, Predicted(rows=0, buffers=[]), [b"x" * 200])
        message = theirs.recv(10_000)
    size = -(-len(message) // pieces)

    def send() -> None:
        with contextlib.suppress(OSError):
            for start in range(0, len(message), size):
                sock.sendall(message[start : start + size])
                time.sleep(pause_s)

    sending = threading.Thread(target=send)
    sending.start()
    return sending


def test_a_slow_answer_gives_none_after_it_more_time() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        channel = Channel(ours)
        sending = _send_in_pieces(theirs, 1, 0.01, 3)
        channel.receive_answer(1, 1000, time.monotonic() + 60)
        sending.join()
        sending = _send_in_pieces(theirs, 2, 0.05, 60)
        with pytest.raises(MessageError, match="in time"):
            channel.receive_answer(2, 1000, time.monotonic() + 0.2)
    sending.join()
    theirs.close()


SCHEMA = pa.schema([("text", pa.string()), ("flag", pa.bool_()), ("number", pa.float64())])
ROWS = pa.RecordBatch.from_pylist(
    [{"text": "a", "flag": True, "number": 1.5}, {"text": None, "flag": None, "number": None}], schema=SCHEMA
)


def test_columns_arrive_as_they_were_sent() -> None:
    for rows in (ROWS, ROWS.slice(1), ROWS.slice(0, 0)):
        answer, buffers = pack_columns(rows)
        arrived = unpack_columns(SCHEMA, rows.num_rows, answer, memoryview(b"".join(buffers)))
        assert arrived.equals(rows)


@pytest.mark.parametrize(
    ("offsets", "text"),
    [
        ((0, 1, 1_000_000), b"a"),  # beyond the text
        ((0, -5, 1), b"a"),
        ((1, 0, 1), b"a"),  # backwards
        ((0, 1, 2), b"\xff\xfe"),  # no UTF-8
    ],
)
def test_a_crafted_text_column_is_refused_before_it_is_read(offsets: tuple[int, ...], text: bytes) -> None:
    body = struct.pack("3i", *offsets) + text
    answer = Predicted(rows=2, buffers=[[None, 12, len(text)]])
    with pytest.raises(MessageError):
        unpack_columns(pa.schema([("text", pa.string())]), 2, answer, memoryview(body))


@pytest.mark.parametrize(
    "kind",
    [
        *("list<item: double>", "dictionary<values=string>", "struct<>", "null", "x"),
        *("extension<arrow.json>", "run_end_encoded<int32, double>", "dense_union<>", "fixed_size_binary[4]"),
        *("decimal128(99, 2)", "timestamp[us, tz=Foo/Bar]", "timestamp[us, tz=/etc/passwd]"),
        *("timestamp[us, tz=America]", f"timestamp[us, tz={'A' * 5000}]"),
    ],
)
def test_a_type_that_no_model_answers_in_is_refused(kind: str) -> None:
    with pytest.raises(MessageError):
        outputs_schema([Column(name="prediction", type=kind)])


@pytest.mark.parametrize(
    "names", [["id"], ["dispatch_id"], ["prediction", "prediction"], ["prediction", "model"], []]
)
def test_a_column_that_is_no_prediction_is_refused(names: list[str]) -> None:
    with pytest.raises(MessageError):
        outputs_schema([Column(name=name, type="double") for name in names])


@pytest.mark.parametrize(
    "metadata",
    [
        {"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": "gASV"},
        {"ARROW:extension:name": "arrow.json"},
        {"classes": "[1, 2]", "POSTGRESQL:type": "numeric"},
        *({"classes": text} for text in ("5", "{", '{"a": 1}', "[[1]]", "[" * 100_000, '["x"]', "[1e400]")),
    ],
)
def test_metadata_that_are_no_classes_are_refused(metadata: dict[str, str]) -> None:
    with pytest.raises(MessageError):
        outputs_schema([Column(name="prediction", type="int64", metadata=metadata)])


def test_classes_arrive_with_their_column() -> None:
    for kind, text in (
        ("int64", "[0, 1]"),
        ("string", '["a", 1]'),
        ("double", "[0.5, NaN]"),
        ("bool", "[true]"),
    ):
        (field,) = outputs_schema([Column(name="prediction", type=kind, metadata={"classes": text})])
        assert field.metadata == {b"classes": text.encode()}


def test_columns_of_every_kind_of_model_are_taken() -> None:
    names = ["prediction", "prediction_1", "probability_a b\n", "probability_1_2", "score"]
    assert outputs_schema([Column(name=name, type="double") for name in names]).names == names


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (pa.date32(), struct.pack("i", 2**31 - 1)),
        (pa.timestamp("s"), struct.pack("q", 2**62)),
        (pa.timestamp("us", "UTC"), struct.pack("q", -(2**62))),
    ],
)
def test_a_time_that_python_cannot_hold_is_refused(kind: pa.DataType, content: bytes) -> None:
    schema = pa.schema([("prediction", kind)])
    with pytest.raises(MessageError, match="prediction"):
        unpack_columns(schema, 1, Predicted(1, [[None, len(content)]]), memoryview(content))


@pytest.mark.parametrize("module", ["", "x\0y", "../../etc", "a" * 5000])
def test_a_library_of_an_impossible_name_is_left_out(module: str) -> None:
    assert versions_of([module]) == versions_of([])


def test_what_a_process_says_of_its_failure_cannot_deceive_a_terminal() -> None:
    said = Failed("X\x1b[2J", "\x1b]0;owned\x07\r" + "long" * 100_000, "cause \x9b31m")
    error = raised("churn", said, StepLimits(None, None, must_be_confined=False))
    for text in (str(error), str(error.__cause__)):
        assert all(char.isprintable() or char in "\n\t" for char in text)
        assert len(text) < 100_000
