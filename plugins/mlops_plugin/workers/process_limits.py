"""What a model's process may use, in the Showroom and in a step of a dispatch; `process` asks.

The two differ in what limits them and in what a person can do about it, so each words its own advice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ModelConfig, ServingConfig

# For who sets no limit: poll(2) counts milliseconds in 31 bits.
NO_LIMIT_S = 20 * 86_400.0


class Limits(Protocol):
    """Seconds, megabytes and threads of one process, and the advice for who exceeds them."""

    @property
    def load_s(self) -> float: ...

    @property
    def answer_s(self) -> float: ...

    @property
    def memory_mb(self) -> int | None:
        """None: as much as there is."""

    @property
    def must_be_confined(self) -> bool:
        """Refuse to load a model if the kernel cannot confine the process in every way."""

    @property
    def is_step(self) -> bool:
        """A step computes on all threads and asks golden rows itself; the Showroom on one, when it loads."""

    @property
    def too_slow(self) -> str: ...

    @property
    def too_large(self) -> str:
        """What follows "the model" if it needs more than `memory_mb`."""

    @property
    def ended(self) -> str:
        """What follows if the process has ended."""

    @property
    def needs_more(self) -> str:
        """What to do about a model that is denied something."""


@dataclass(frozen=True)
class ServingLimits:
    """`serving:` of the configuration: a person waits, and other models need room."""

    config: ServingConfig
    is_step = False
    needs_more = ""

    @property
    def load_s(self) -> float:
        return self.config.load_timeout.total_seconds()

    @property
    def answer_s(self) -> float:
        return self.config.timeout.total_seconds()

    @property
    def memory_mb(self) -> int:
        return self.config.memory_mb

    @property
    def must_be_confined(self) -> bool:
        return self.config.require_confinement

    @property
    def too_slow(self) -> str:
        return (
            f"the model did not answer within {self.answer_s:g} s (loading: {self.load_s:g} s), and its "
            "process was killed; give it fewer rows, or raise serving.timeout or serving.load_timeout"
        )

    @property
    def too_large(self) -> str:
        return (
            f"needs more memory than the {self.memory_mb} MB it may use; give it fewer rows, or raise "
            "serving.memory_mb"
        )

    @property
    def ended(self) -> str:
        return f"the next run starts a new one (it may use {self.memory_mb} MB, see serving.memory_mb)"


@dataclass(frozen=True)
class StepLimits:
    """A step of a dispatch: one deadline for all of it, `until` in seconds of `time.monotonic`."""

    task_timeout_s: float | None
    until: float | None
    must_be_confined: bool
    is_step = True
    memory_mb = None
    too_large = "needs more memory than there is"
    needs_more = (
        "; the model runs in a process without network, other files and programs: if you trust it with the "
        "task's rights, set `model: {isolation: none}`"
    )

    @classmethod
    def from_now(cls, model: ModelConfig, *, must_be_confined: bool) -> StepLimits:
        """The limits of a step that starts now."""
        timeout = model.task_timeout
        seconds = None if timeout is None else timeout.total_seconds()
        return cls(seconds, None if seconds is None else time.monotonic() + seconds, must_be_confined)

    @property
    def load_s(self) -> float:
        return NO_LIMIT_S if self.until is None else max(0.0, self.until - time.monotonic())

    @property
    def answer_s(self) -> float:
        return self.load_s

    @property
    def too_slow(self) -> str:
        return (
            f"the model did not answer within the {self.task_timeout_s or 0:g} s of its step, and its "
            "process was killed; divide its rows with source.partitions, or raise task_timeout"
        )

    @property
    def ended(self) -> str:
        return "a retry starts a new one; the kernel often sends SIGKILL if memory runs out"
