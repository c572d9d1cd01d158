"""Draws the diagrams in docs/diagrams; `make docs` runs it. A test compares the files with what it draws."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "diagrams"
_LINE, _TITLE_SIZE, _TEXT_SIZE = 19, 16, 14
# Colors of both schemes have a contrast of 7 to 1 or more for text.
_STYLE = """
  svg { font-family: system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; }
  .ground { fill: #ffffff; } .box { fill: #f1f5f9; stroke: #475569; }
  .ours { fill: #dbeafe; stroke: #1d4ed8; }
  .step { fill: #ffffff; stroke: #1d4ed8; } .bad { fill: #fee2e2; stroke: #b91c1c; }
  .good { fill: #dcfce7; stroke: #15803d; }
  text { fill: #0f172a; } .arrow { stroke: #334155; } .head { fill: #334155; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0f172a; } .box { fill: #1e293b; stroke: #94a3b8; }
    .ours { fill: #172554; stroke: #93c5fd; }
    .step { fill: #0f172a; stroke: #93c5fd; } .bad { fill: #450a0a; stroke: #fca5a5; }
    .good { fill: #052e16; stroke: #86efac; }
    text { fill: #f1f5f9; } .arrow { stroke: #cbd5e1; } .head { fill: #cbd5e1; }
  }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle with a title and lines of text; its kind is a class of the style."""

    x: int
    y: int
    width: int
    height: int
    title: str
    lines: Sequence[str] = ()
    kind: str = "box"

    def draw(self) -> Iterator[str]:
        size = f'width="{self.width}" height="{self.height}"'
        yield f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" {size} rx="8"/>'
        middle = self.x + self.width // 2
        yield _text(middle, self.y + 25, self.title, _TITLE_SIZE, bold=True)
        for number, line in enumerate(self.lines, 1):
            yield _text(middle, self.y + 26 + number * _LINE, line, _TEXT_SIZE)


@dataclass(frozen=True)
class Arrow:
    """From one point through others to the last, with words beside its middle."""

    points: Sequence[tuple[int, int]]
    words: str = ""
    words_at: tuple[int, int] = (0, 0)

    def draw(self) -> Iterator[str]:
        path = " ".join(f"{x},{y}" for x, y in self.points)
        looks = 'class="arrow" fill="none" stroke-width="2" marker-end="url(#head)"'
        yield f'<polyline {looks} points="{path}"/>'
        if self.words:
            yield _text(*self.words_at, self.words, _TEXT_SIZE)


def _text(x: int, y: int, words: str, size: int, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" text-anchor="middle" font-size="{size}"{weight}>{escape(words)}</text>'


def architecture() -> tuple[str, int, int, list[Box | Arrow]]:
    """What calls the pipeline, and what it reads and writes."""
    doors = [
        Box(20, 110, 215, 66, "Airflow", ["a DAG for each model"]),
        Box(255, 110, 215, 66, "Terminal", ["mlops dispatch"]),
        Box(490, 110, 215, 66, "Showroom", ["a user chooses cases"]),
        Box(725, 110, 215, 66, "Programs", ["mlops serve"]),
    ]
    steps = [
        Box(40 + 224 * number, 272, 208, 66, name, [words], "step")
        for number, (name, words) in enumerate(
            (
                ("collect", "reads rows"),
                ("log", "pins model and rows"),
                ("infer", "checks and predicts"),
                ("persist", "writes in one commit"),
            )
        )
    ]
    inner = [Arrow([(248 + 224 * number, 305), (262 + 224 * number, 305)]) for number in range(3)]
    return (
        "Airflow, the terminal, the Showroom and programs run the same pipeline: collect, log, infer and "
        "persist. It reads the source and the model, keeps rows in staging, records each step in the event "
        "store, and writes the sink. Dispatches and Monitor read the event store.",
        960,
        610,
        [
            Box(20, 16, 920, 62, "config.yaml", ["models, queries, contracts, sinks; no passwords"]),
            *(Arrow([(127 + 235 * number, 78), (127 + 235 * number, 108)]) for number in range(4)),
            *doors,
            *(Arrow([(127 + 235 * number, 176), (127 + 235 * number, 224)]) for number in range(4)),
            Box(20, 226, 920, 132, "One pipeline", kind="ours"),
            *steps,
            *inner,
            Box(20, 420, 170, 85, "Source", ["any SQL database"]),
            Box(210, 420, 170, 85, "Staging", ["rows between tasks,", "with checksums"]),
            Box(400, 420, 170, 85, "Event store", ["every step", "and try"]),
            Box(590, 420, 170, 85, "Model", ["your file, pinned", "by its hash"]),
            Box(780, 420, 160, 85, "Sink", ["predictions,", "quarantine"], "good"),
            Arrow([(105, 420), (105, 340)]),
            Arrow([(295, 358), (295, 418)]),
            Arrow([(485, 358), (485, 418)]),
            Arrow([(640, 420), (640, 340)]),
            Arrow([(860, 338), (860, 418)]),
            Box(300, 540, 370, 50, "Dispatches and Monitor, in Airflow"),
            Arrow([(485, 505), (485, 538)]),
        ],
    )


def life_of_a_row() -> tuple[str, int, int, list[Box | Arrow]]:
    """What happens to a row on its way to a prediction, from the top to the bottom."""
    return (
        "A row on its way from the source to the predictions: collect reads it and stages it with a "
        "checksum; log pins the model and the rows; infer checks it by the contract and predicts; persist "
        "writes all predictions in one transaction. A row that breaks the contract goes to the quarantine, "
        "and one that has a newer prediction keeps it.",
        960,
        690,
        [
            Box(330, 16, 300, 66, "Source", ["id 42, changed at 09:12"]),
            Arrow([(480, 82), (480, 112)]),
            Box(
                230,
                114,
                500,
                85,
                "collect",
                ["rows from the watermark on; a type that cannot", "be kept exactly is refused"],
                "ours",
            ),
            Arrow([(480, 199), (480, 229)], "a block with a checksum, in staging", (625, 219)),
            Box(
                230,
                231,
                500,
                85,
                "log",
                ["hashes of model, signature and rows are recorded;", "infer refuses any others"],
                "ours",
            ),
            Arrow([(480, 316), (480, 346)]),
            Box(
                230,
                348,
                500,
                85,
                "infer",
                ["golden rows first: the same answers as in training;", "then the contract, then the model"],
                "ours",
            ),
            Arrow([(730, 390), (768, 390)]),
            Box(770, 348, 170, 85, "Rejected", ["to the quarantine,", "with the reason"], "bad"),
            Arrow([(480, 433), (480, 463)], "its answer, in staging", (580, 453)),
            Box(
                230,
                465,
                500,
                85,
                "persist",
                ["one transaction: all rows of the dispatch or none;", "collected = predicted + rejected"],
                "ours",
            ),
            Arrow([(730, 507), (768, 507)]),
            Box(770, 465, 170, 85, "Superseded", ["a newer prediction", "is there: it stays"]),
            Arrow([(480, 550), (480, 598)], "then the watermark moves past 09:12", (625, 579)),
            Box(330, 600, 300, 66, "Predictions", ["id 42, answer, dispatch, model, time"], "good"),
            Box(
                20,
                231,
                170,
                202,
                "Event store",
                ["each start and end", "of each step, its", "tries, counts, SQL", "and error"],
            ),
            Arrow([(230, 156), (105, 156), (105, 229)]),
            Arrow([(230, 273), (192, 273)]),
            Arrow([(230, 390), (192, 390)]),
            Arrow([(230, 507), (105, 507), (105, 435)]),
        ],
    )


DIAGRAMS = {"architecture": architecture, "life-of-a-row": life_of_a_row}


def render(name: str) -> str:
    """The SVG, in light and dark as the reader's system is."""
    description, width, height, parts = DIAGRAMS[name]()
    drawn = "\n".join(line for part in parts for line in part.draw())
    size = f'viewBox="0 0 {width} {height}" width="{width}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="d">
<desc id="d">{escape(description)}</desc>
<style>{_STYLE}</style>
<defs>
<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">
<path class="head" d="M0,0 L10,5 L0,10 z"/>
</marker>
</defs>
<rect class="ground" width="{width}" height="{height}" rx="12"/>
{drawn}
</svg>
"""


def main(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for name in DIAGRAMS:
        (folder / f"{name}.svg").write_text(render(name), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
