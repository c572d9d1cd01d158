"""Models in processes of their own: what they do there stays there."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from mlops_plugin.config.schema import ServingConfig
from mlops_plugin.errors import ArtifactError, FeatureError, ServingBusy, ServingError
from mlops_plugin.formats.runtime import load_runtime
from mlops_plugin.workers import pool as pools
from mlops_plugin.workers.pool import ModelPool
from mlops_plugin.workers.process import ModelProcess
from support import hostile_models as hostile
from support.workshop import FEATURES, Workshop


@pytest.fixture
def pool() -> Iterator[ModelPool]:
    pool = ModelPool(_limits())
    yield pool
    pool.close()


def _limits(**changes: Any) -> ServingConfig:
    values = {"timeout": "120s", "load_timeout": "240s", "memory_mb": 700, "workers": 2, **changes}
    return ServingConfig.model_validate(values)


def _row(a: float) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"id": 1, "a": float(a), "b": 0.5, "c": 0.25}])


def _add_hostile(
    workshop: Workshop, model: hostile.Hostile | None = None, names: Sequence[str] = ("hostile",)
) -> None:
    """Models that need none of the libraries that the workshop's own takes seconds to load."""
    artifact = hostile.save(model or hostile.Hostile(), workshop.folder / "hostile.pickle")
    for name in names:
        workshop.add_model(name, model=artifact, features=list(FEATURES))


def _predict(pool: ModelPool, workshop: Workshop, a: float, name: str = "hostile") -> pa.RecordBatch:
    with pool.runtime(workshop.model(name)) as runtime:
        return runtime.predict(_row(a))


def test_to_learn_what_a_model_answers_is_a_part_of_loading_it(workshop: Workshop) -> None:
    _add_hostile(workshop, hostile.SlowToDescribe())
    with (
        contextlib.closing(ModelPool(_limits(timeout="1s"))) as pool,
        pool.runtime(workshop.model("hostile")) as process,
    ):
        assert process.outputs.names == ["prediction"]


def test_a_process_answers_what_the_model_answers_here(pool: ModelPool, workshop: Workshop) -> None:
    here = load_runtime(workshop.model().model, features=None)
    rows = pa.RecordBatch.from_pylist([{"id": n, "a": n / 7, "b": -n / 3, "c": 0.1} for n in range(50)])
    with pool.runtime(workshop.model()) as there:
        assert there.predict(rows).equals(here.predict(rows))
        assert there.predict(rows.slice(0, 0)).equals(here.predict(rows.slice(0, 0)))
        assert (there.features, there.outputs, there.artifact_sha256) == (
            here.features,
            here.outputs,
            here.artifact_sha256,
        )


@pytest.mark.parametrize(
    ("deed", "said"),
    [
        (hostile.HANGS, r"did not answer within 6 s .*serving\.timeout"),
        (hostile.HANGS_IN_NATIVE_CODE, r"did not answer within 6 s"),
        (hostile.EXITS, r"ended with exit status 7"),
        (hostile.CRASHES, r"ended with signal SIGSEGV"),
        (hostile.GROWS, r"more memory than the 700 MB.*serving\.memory_mb"),
        (hostile.HOARDS, r"more memory than the 700 MB.*serving\.memory_mb.*killed"),
        (hostile.MULTIPLIES, r"starts more than \d+ threads; its process was killed"),
    ],
)
def test_a_misbehaving_model_gives_a_clear_error_and_the_next_run_works(
    workshop: Workshop, deed: int, said: str
) -> None:
    _add_hostile(workshop)
    hangs = deed in (hostile.HANGS, hostile.HANGS_IN_NATIVE_CODE)
    with contextlib.closing(ModelPool(_limits(timeout="6s") if hangs else _limits())) as pool:
        with pytest.raises(ServingError, match=f"^models.hostile: .*{said}"):
            _predict(pool, workshop, deed)
        pool.limits = _limits()  # a model that behaves has time, also on a busy machine
        assert _predict(pool, workshop, 3).to_pylist() == [{"prediction": 3.0}]


def test_whatever_a_model_raises_is_its_refusal_and_the_next_run_works(
    pool: ModelPool, workshop: Workshop
) -> None:
    _add_hostile(workshop)
    with pytest.raises(FeatureError, match="RuntimeError: the model does not feel like it"):
        _predict(pool, workshop, hostile.RAISES)
    assert _predict(pool, workshop, 3).to_pylist() == [{"prediction": 3.0}]


def test_a_model_that_prints_still_answers(pool: ModelPool, workshop: Workshop) -> None:
    _add_hostile(workshop)
    assert _predict(pool, workshop, hostile.PRINTS).to_pylist() == [{"prediction": float(hostile.PRINTS)}]


def test_a_model_runs_on_one_thread_and_sees_no_secret(pool: ModelPool, workshop: Workshop) -> None:
    _add_hostile(workshop)
    assert any(name.startswith("AIRFLOW_CONN_") for name in os.environ)
    assert _predict(pool, workshop, hostile.LOOKS_AROUND).to_pylist() == [{"prediction": 0.0}]
    assert _predict(pool, workshop, hostile.TELLS_THREADS).to_pylist()[0]["prediction"] <= 2


def test_errors_of_the_model_keep_their_kind(pool: ModelPool, workshop: Workshop) -> None:
    with pool.runtime(workshop.model()) as runtime:
        with pytest.raises(FeatureError, match="3 features: 'c'"):
            runtime.predict(_row(1).select(["id", "a", "b"]))
        with pytest.raises(FeatureError, match="'b' is string"):
            runtime.check(pa.schema([("a", pa.int64()), ("b", pa.string()), ("c", pa.int64())]))


def test_a_model_is_loaded_once_and_again_when_artifact_or_configuration_change(
    pool: ModelPool, workshop: Workshop
) -> None:
    def pid() -> int:
        with pool.runtime(workshop.model()) as runtime:
            return runtime.pid

    first = pid()
    assert pid() == first
    workshop.add_model("churn", description="other words")
    second = pid()
    assert second != first
    frame = workshop.frame([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    skops.io.dump(LogisticRegression().fit(frame, ["dry", "wet"]), workshop.folder / "churn.skops")
    with pool.runtime(workshop.model()) as runtime:
        assert runtime.pid != second
        assert "probability_wet" in runtime.outputs.names
    assert not Path(f"/proc/{first}").exists()
    assert not Path(f"/proc/{second}").exists()


def test_an_artifact_that_was_copied_with_the_times_of_the_one_before_is_another(
    pool: ModelPool, workshop: Workshop
) -> None:
    """As `cp -p` does, or images whose files all have one time; models of one kind have one size."""
    path, model = workshop.folder / "churn.skops", workshop.model()
    content = path.read_bytes()
    os.utime(path, (1e9, 1e9))
    first = pool.artifact_sha256(model)
    path.write_bytes(content[:-1] + b"!")
    os.utime(path, (1e9, 1e9))
    assert pool.artifact_sha256(model) != first


def test_loading_is_visible_while_it_lasts(
    pool: ModelPool, workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    _add_hostile(workshop, hostile.SlowToLoad())
    model, seen = workshop.model("hostile"), list[str]()

    class Watched(ModelProcess):
        def load(self) -> None:
            seen.append(pool.loading(model).state)
            super().load()
            seen.append(pool.loading(model).state)

    monkeypatch.setattr(pools, "ModelProcess", Watched)
    assert pool.loading(model).state == "absent"
    _predict(pool, workshop, 1)
    assert seen == ["loading", "loading"]
    ready = pool.loading(model)
    assert ready.state == "ready"
    assert ready.seconds is not None
    assert ready.seconds >= 1
    assert ready.memory_bytes is not None
    assert ready.memory_bytes > 10 << 20


def test_a_model_that_cannot_be_loaded_says_why(pool: ModelPool, workshop: Workshop) -> None:
    (workshop.folder / "churn.skops").write_bytes(b"not a model")
    with pytest.raises(ArtifactError, match="skops"), pool.runtime(workshop.model()):
        pass
    found = pool.loading(workshop.model())
    assert found.state == "failed"
    assert "cannot be loaded" in str(found.error)


def test_the_model_unused_for_longest_makes_room(workshop: Workshop) -> None:
    _add_hostile(workshop, names=("one", "two", "three"))
    pool = ModelPool(_limits(workers=2))
    try:
        for name in ("one", "two", "one", "three"):
            _predict(pool, workshop, 1, name)
        states = {name: pool.loading(workshop.model(name)).state for name in ("one", "two", "three")}
        assert states == {"one": "ready", "two": "absent", "three": "ready"}
    finally:
        pool.close()


def test_a_model_starts_though_all_processes_are_busy_up_to_twice_as_many(workshop: Workshop) -> None:
    _add_hostile(workshop, names=("one", "two", "three"))
    pool = ModelPool(_limits(workers=1))

    def ready() -> list[str]:
        return [
            name for name in ("one", "two", "three") if pool.loading(workshop.model(name)).state == "ready"
        ]

    try:
        with pool.runtime(workshop.model("one")):
            with pool.runtime(workshop.model("two")):
                assert ready() == ["one", "two"]
                with (
                    pytest.raises(ServingBusy, match=r"all 2 model processes are busy.*serving\.workers"),
                    pool.runtime(workshop.model("three")),
                ):
                    pass
            assert ready() == ["one"]
            with pytest.raises(FeatureError), pool.runtime(workshop.model("two")) as runtime:
                runtime.check(pa.schema([("a", pa.int64())]))
            assert ready() == ["one"]
    finally:
        pool.close()


def test_closing_tells_who_waits_for_an_answer(workshop: Workshop) -> None:
    _add_hostile(workshop)
    pool = ModelPool(_limits(timeout="600s"))
    with pool.runtime(workshop.model("hostile")) as runtime:
        name = Path(f"/proc/{runtime.pid}/comm")
    said: list[str] = []

    def wait() -> None:
        with pytest.raises(ServingError) as error:
            _predict(pool, workshop, hostile.HANGS)
        said.append(str(error.value))

    waiting = threading.Thread(target=wait)
    waiting.start()
    _wait(lambda: name.read_text().strip() == hostile.HANGING)
    pool.close()
    waiting.join(60)
    assert "ended with signal SIGKILL" in said[0]


def test_closing_ends_a_process_whose_model_is_being_loaded(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool, started = ModelPool(_limits()), list[int]()

    class ClosedMeanwhile(ModelProcess):
        def load(self) -> None:
            super().load()
            started.append(self.pid)
            pool.close()

    monkeypatch.setattr(pools, "ModelProcess", ClosedMeanwhile)
    _add_hostile(workshop)
    with pytest.raises(ServingError, match="shutting down"), pool.runtime(workshop.model("hostile")):
        pass
    assert len(started) == 1
    assert not Path(f"/proc/{started[0]}").exists()


def test_four_models_that_hang_do_not_block_a_fifth(workshop: Workshop) -> None:
    names = [f"hangs_{number}" for number in range(4)]
    _add_hostile(workshop, names=names)
    pool = ModelPool(_limits(timeout="600s", load_timeout="240s", workers=4))
    crowd = [
        threading.Thread(target=_quietly, args=(pool, workshop, hostile.HANGS, name))
        for name in names
        for _ in range(10)
    ]
    for one in crowd:
        one.start()
    _wait(lambda: all(pool.loading(workshop.model(name)).state == "ready" for name in names))
    for name in names:
        with pytest.raises(ServingBusy):
            _predict(pool, workshop, 1, name)
    assert _predict(pool, workshop, 3.0, "churn").num_rows == 1
    pool.close()
    for one in crowd:
        one.join(60)
        assert not one.is_alive()


def _wait(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 240
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _quietly(pool: ModelPool, workshop: Workshop, a: float, name: str) -> None:
    with contextlib.suppress(ServingError):
        _predict(pool, workshop, a, name)


def test_closing_ends_every_process(workshop: Workshop) -> None:
    _add_hostile(workshop)
    pool = ModelPool(_limits())
    with pool.runtime(workshop.model("hostile")) as runtime:
        pid = runtime.pid
    pool.close()
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(ServingError, match="shutting down"), pool.runtime(workshop.model("hostile")):
        pass
