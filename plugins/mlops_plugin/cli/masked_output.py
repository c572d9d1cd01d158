"""What the terminal shows: without secrets, whoever prints."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from mlops_plugin.masking import masked


class OutputClosed(BrokenPipeError):
    """Nobody reads the output any more: it went to `head`, for example."""


class OutputUnwritable(OSError):
    """The output goes to a file, and its disk is full, for example."""


class MaskedStream:
    """A stream of text; everything but what is written is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write the text masked; returns its length as it was given, as callers expect."""
        shown = masked(text)
        with _noticing_closed():
            try:
                self._stream.write(shown)
            except UnicodeEncodeError:  # a terminal of another encoding, or a name that is not UTF-8
                encoding = self._stream.encoding
                self._stream.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        with _noticing_closed():
            self._stream.flush()

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def _noticing_closed() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise OutputClosed(*error.args) from error
    except OSError as error:
        raise OutputUnwritable(*error.args) from error


@contextlib.contextmanager
def masked_output() -> Iterator[None]:
    """Mask what is written to standard output and standard error inside."""
    out, err = MaskedStream(sys.stdout), MaskedStream(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        yield
