"""The requirements file of a model's environment: what it must be like to build the same one again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mlops_plugin.errors import EnvironmentUnusable

# What the worker needs beside the model's libraries.
NEEDED = ("numpy", "pyarrow")
_LARGEST_BYTES = 4 << 20
# Options that name another file, or a folder whose content the hash of this file does not cover.
_OTHER_FILES = re.compile(r"^(-[rce]|--(requirement|constraint|editable)\b|\.{0,2}/|file:)|@\s*file:")
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_PINNED = re.compile(r"==\s*[^*\s;,]+\s*(;|--|$)|===|@\s*\S")


@dataclass(frozen=True)
class Requirements:
    """A file's lines, continued ones joined, without comments."""

    path: str
    content: bytes

    @classmethod
    def read(cls, path: str) -> Requirements:
        """Raises `EnvironmentUnusable` if it cannot be read, or refers to other files."""
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise EnvironmentUnusable(
                f"requirements file '{path}' cannot be read: {error.strerror}; check `environment: "
                "{requirements: ...}`, a path from the folder of config.yaml"
            ) from error
        if len(content) > _LARGEST_BYTES or b"\0" in content:
            raise EnvironmentUnusable(f"'{path}' is no requirements file; name a text as `pip freeze` prints")
        found = cls(path, content)
        for line in found.lines:
            if _OTHER_FILES.search(line):
                raise EnvironmentUnusable(
                    f"requirements file '{path}' refers to another file ('{line}'), so nothing would tell "
                    "that the environment is out of date; compile all into one, e.g. with: "
                    "uv pip compile --generate-hashes"
                )
        return found

    @cached_property
    def lines(self) -> tuple[str, ...]:
        text = re.sub(r"\\\r?\n", " ", self.content.decode(errors="replace"))
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
        return tuple(line for line in lines if line)

    @cached_property
    def packages(self) -> dict[str, str]:
        """The line of each package, by its normalized name."""
        named = ((_NAME.match(line), line) for line in self.lines)
        return {normalized(name[0]): line for name, line in named if name is not None}

    @property
    def is_hashed(self) -> bool:
        """Whether every package has its hashes."""
        return bool(self.packages) and all("--hash=" in line for line in self.packages.values())

    @property
    def unpinned(self) -> tuple[str, ...]:
        """Packages of which any release may be installed."""
        return tuple(name for name, line in self.packages.items() if not _PINNED.search(line))

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the worker needs and the file does not name."""
        return tuple(name for name in NEEDED if name not in self.packages)


def normalized(name: str) -> str:
    """A package's name as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", name).lower()
