"""What the library of each format costs: the processor's seconds to import it, and its size on the disk.

Writes the table in docs/formats.md:

    python -m benchmarks.library_costs
"""

from __future__ import annotations

import importlib.metadata
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "formats.md"
_RUNS = 3
_SHOWN_S = 0.05
_CELLS = 6  # of a row
_THERE_ANYWAY = "import numpy, pyarrow"  # of what rows are made


@dataclass(frozen=True)
class Library:
    """A format, what saves a model in it, to what answers are equal, and what reads it."""

    format: str
    save: str
    equal_to: str
    package: str
    module: str


LIBRARIES = (
    Library("skops", "`skops.io.dump(model, file)`", "`model.predict(X)`", "skops", "skops.io"),
    Library(
        "joblib, pickle",
        "`joblib.dump(model, file)`",
        "`model.predict(X)`",
        "scikit-learn",
        "sklearn.ensemble, sklearn.linear_model",
    ),
    Library(
        "lightgbm",
        "`model.booster_.save_model(file)`",
        "`model.predict_proba(X)`, `booster.predict(X)`",
        "lightgbm",
        "lightgbm",
    ),
    Library("xgboost", "`model.save_model(file)`", "`model.predict_proba(X)`", "xgboost-cpu", "xgboost"),
    Library("catboost", "`model.save_model(file)`", "`model.predict_proba(X)`", "catboost", "catboost"),
    Library(
        "onnx",
        "`to_onnx(model, X[:1]).SerializeToString()`",
        "`session.run(None, rows)` on one thread",
        "onnxruntime",
        "onnxruntime",
    ),
)


def size_mb(package: str) -> int:
    """Megabytes of the installed files, without what it depends on and without bytecode."""
    found = importlib.metadata.distribution(package)
    paths = (Path(str(found.locate_file(file))) for file in found.files or () if file.suffix != ".pyc")
    return round(sum(path.stat().st_size for path in paths if path.is_file()) / 1e6)


def import_cpu_s(modules: str) -> float:
    """The least of some runs, without what every model's process imports."""
    return max(0.0, _cpu_s(f"{_THERE_ANYWAY}, {modules}") - _cpu_s(_THERE_ANYWAY))


def _cpu_s(code: str) -> float:
    found = []
    for _ in range(_RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def start_of_row(library: Library) -> str:
    """The cells of a row that nothing has to be timed for."""
    formats = ", ".join(f"`{name}`" for name in library.format.split(", "))
    version = importlib.metadata.version(library.package)
    cells = (formats, library.save, library.equal_to, f"{library.package} {version}")
    return f"| {' | '.join(cells)} | {size_mb(library.package)} |"


def render(text: str) -> str:
    """The page with the table's rows as they are now."""
    rows = {library.format: _row(library) for library in LIBRARIES}
    lines = []
    for line in text.split("\n"):
        name = line[2:].partition(" | ")[0].replace("`", "")
        is_row = line.startswith("| ") and line.count(" | ") == _CELLS - 1
        lines.append(rows.get(name, line) if is_row else line)
    return "\n".join(lines)


def _row(library: Library) -> str:
    seconds = import_cpu_s(library.module)
    return f"{start_of_row(library)} {f'{seconds:.1f}' if seconds >= _SHOWN_S else 'under 0.1'} |"


def main(_arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
