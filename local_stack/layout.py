"""The paths in a checkout that `make up` has set up."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from local_stack.progress import LocalStackError

ODD_CHARACTERS = set("%?#'\"\\\n\r\t:,")  # each of them has a meaning in a URL, an ini file or a PATH


@dataclass(frozen=True)
class Layout:
    """Paths of one checkout."""

    checkout: Path

    @property
    def local(self) -> Path:
        return self.checkout / ".local"

    @property
    def airflow_home(self) -> Path:
        return self.local / "airflow"

    @property
    def logs(self) -> Path:
        return self.local / "logs"

    @property
    def env_file(self) -> Path:
        return self.local / "env"

    @property
    def admin_password(self) -> Path:
        return self.local / "admin-password"

    @property
    def secrets(self) -> Path:
        return self.local / "secrets.json"

    @property
    def demo(self) -> Path:
        return self.local / "demo.db"

    @property
    def predictions(self) -> Path:
        return self.local / "predictions.db"

    @property
    def events(self) -> Path:
        return self.local / "events.db"

    @property
    def venv(self) -> Path:
        return self.checkout / ".venv"

    def program(self, name: str) -> str:
        return str(self.venv / "bin" / name)

    def create(self) -> None:
        """Make `.local/`, for its owner only; raises `LocalStackError` for a path that Airflow cannot use."""
        if odd := ODD_CHARACTERS.intersection(str(self.checkout)):
            shown = " ".join(sorted(odd)).replace("\n", "newline")
            raise LocalStackError(
                f"{self.checkout}: Airflow cannot run in a folder with {shown} in its path; move the checkout"
            )
        try:
            self.local.mkdir(mode=0o700, exist_ok=True)
            self.local.chmod(0o700)  # of a folder that was there, too
            self.airflow_home.mkdir(exist_ok=True)
            self.logs.mkdir(exist_ok=True)
        except OSError as failure:
            raise LocalStackError(f"{self.local} cannot be made: {failure.strerror}") from failure


def this_checkout() -> Layout:
    return Layout(Path(__file__).resolve().parents[1])


def write_private(path: Path, text: str) -> None:
    """Write a whole file at once, readable by its owner only from its first moment."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    Path(name).replace(path)
