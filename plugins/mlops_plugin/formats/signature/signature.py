"""A model's signature as it was written: read from beside the artifact, and compared with the pin.

`load_runtime`, `collect` and `mlops check` read it. Importing this module loads no numpy and no pandas.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from typing import IO, TYPE_CHECKING, Annotated, Any, Literal

from mlops_plugin.config.format_names import SIGNATURE_SUFFIX
from mlops_plugin.errors import ArtifactChanged, SignatureError
from mlops_plugin.formats.artifact import open_artifact, open_regular
from mlops_plugin.formats.signature.cells import decode_cell
from mlops_plugin.formats.signature.records import Misread, read_record

if TYPE_CHECKING:
    from mlops_plugin.config.schema import ArtifactConfig

FORMAT, VERSION = "mlops signature", 1

LARGEST_BYTES = 64 << 20  # of a signature, or a baseline: it is read whole, by everybody who asks
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]")

Kind = Literal[
    "boolean", "integer", "number", "text", "timestamp", "date", "time", "duration", "decimal", "binary",
    "mixed", "unknown",
]  # fmt: skip
Look = Literal["nan", "none", "nat", "pd.NA"]
Method = Literal["predict", "predict_proba", "decision_function"]
Cell = Annotated[Any, decode_cell]


# A later release of the writer may say more; `version` says when that changes the meaning.
@dataclass(frozen=True)
class SignedColumn:
    """One column of the training data. `missing`: how a missing value looks; None: there was none."""

    name: str
    dtype: str
    kind: Kind
    missing: Look | None = None
    also_missing: tuple[Look, ...] = ()
    categories: tuple[Cell, ...] | None = None
    ordered: bool = False


@dataclass(frozen=True)
class SignedInput:
    """The training data's container and columns."""

    container: Literal["frame", "matrix", "documents", "polars", "arrow"]
    columns: tuple[SignedColumn, ...]
    holder: Literal["list", "array", "series"] | None = None  # of documents


@dataclass(frozen=True)
class SignedOutput:
    """What a method answers with; labels are compared exactly, numbers within `tolerance`."""

    method: Method
    kind: Literal["label", "number"]
    dtype: str
    width: int
    tolerance: float = 1e-9
    classes: tuple[tuple[Cell, ...], ...] | None = None


@dataclass(frozen=True)
class Unstable:
    """Why answers are not compared; `rows`: in which golden rows, None: in all."""

    why: str
    rows: frozenset[int] | None


@dataclass(frozen=True)
class GoldenRows:
    """Rows of training, or made up, and what the model answered: for each row all values of a method."""

    origin: Literal["training", "synthetic"]
    rows: tuple[tuple[Cell, ...], ...]
    answers: dict[Method, tuple[tuple[Cell, ...], ...]]
    alone: bool  # whether the model takes a row by itself
    unstable: dict[Method, Unstable] = field(default_factory=dict)


@dataclass(frozen=True)
class Signature:
    """A whole file. `uri` is where it was read from, `sha256` (64 hex digits) that of the file."""

    format: Literal["mlops signature"]
    version: Literal[1]
    made_at: str
    artifact_sha256: str | None
    libraries: dict[str, str]
    input: SignedInput
    outputs: tuple[SignedOutput, ...]
    golden: GoldenRows
    baseline: dict[str, Any] | None = None
    uri: str = ""
    sha256: str = ""

    @property
    def compares_rows(self) -> bool:
        """Whether an answer depended on the rows beside a row; of one that varies anyway, nobody knows."""
        return any(one.rows is not None for one in self.golden.unstable.values())

    def __post_init__(self) -> None:
        if not self.outputs:
            raise Misread("outputs", "there are none")
        rows, width = len(self.golden.rows), len(self.input.columns)
        if any(len(row) != width for row in self.golden.rows):
            raise ValueError(f"a golden row does not have {width} values")
        for output in self.outputs:
            answers = self.golden.answers.get(output.method)
            if answers is None or len(answers) != rows or any(len(row) != output.width for row in answers):
                raise ValueError(
                    f"there are not {output.width} answers of {output.method} for each of {rows} rows"
                )


def signature_uri(artifact_uri: str) -> str:
    """Where an artifact's signature is, or would be."""
    return artifact_uri + SIGNATURE_SUFFIX


def read_signature(artifact: ArtifactConfig) -> Signature | None:
    """The signature beside a model's file, None if there is none and none is pinned.

    Raises `ArtifactChanged` for another file than the pinned one, `SignatureError` for one it cannot read.
    """
    content = _pinned_content(artifact)
    return None if content is None else parse_signature(artifact.signature_uri, content)


def signature_sha256(artifact: ArtifactConfig) -> str | None:
    """SHA-256 of the signature beside a model's file, None if there is none; raises like `read_signature`."""
    content = _pinned_content(artifact)
    return None if content is None else hashlib.sha256(content).hexdigest()


def input_sha256(artifact: ArtifactConfig) -> str | None:
    """SHA-256 of what the signature says of the input, None without one; raises like `read_signature`."""
    content = _pinned_content(artifact)
    if content is None:
        return None
    parse_signature(artifact.signature_uri, content)
    described = json.dumps(json.loads(content)["input"], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()


def _pinned_content(artifact: ArtifactConfig) -> bytes | None:
    uri = artifact.signature_uri
    try:
        content = read_content(uri)
    except SignatureError:
        with open_artifact(artifact.uri):  # a storage that does not answer for it either says why
            raise
    pin = artifact.signature_sha256
    if content is None:
        if pin is None:
            return None
        raise SignatureError(
            f"signature '{uri}' does not exist, but `signature_sha256:` pins one; restore the file, or "
            "write it again with: mlops sign MODEL"
        )
    found = hashlib.sha256(content).hexdigest()
    if pin is not None and found != pin:
        raise ArtifactChanged(
            f"signature '{uri}' is not the pinned one: its SHA-256 is {found}, `signature_sha256:` pins "
            f"{pin}; restore the file, or pin the new one if you know where it comes from"
        )
    return content


def require_made_for(signature: Signature, artifact_sha256: str) -> None:
    """Raise `SignatureError` if the signature was made for another artifact."""
    made_for = signature.artifact_sha256
    if made_for is not None and made_for != artifact_sha256:
        raise SignatureError(
            f"signature '{signature.uri}' was made for another artifact (sha256 {made_for[:12]}..., the "
            f"model's is {artifact_sha256[:12]}...); write one for this model"
        )


def parse_signature(uri: str, content: bytes) -> Signature:
    """A signature from its bytes; raises `SignatureError` if it is none."""
    try:
        found = json.loads(content.decode("utf-8-sig"))
        if _HALF_PAIR.search(content):  # which JSON can write, and no name of a column or text may have
            json.dumps(found, ensure_ascii=False).encode()
        signature = read_record(Signature, found)
    except Misread as error:
        raise SignatureError(
            f"'{uri}' is not a signature of version {VERSION}: {error.place or 'the file'}: {error}; "
            "write it again with: mlops sign MODEL"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SignatureError(
            f"'{uri}' is not JSON ({error}); write it again with: mlops sign MODEL"
        ) from error
    return replace(signature, uri=uri, sha256=hashlib.sha256(content).hexdigest())


def read_content(uri: str) -> bytes | None:
    """The bytes at a path or fsspec URL, None if there is no such file."""
    try:
        if "://" not in uri:
            with open_regular(uri) as local:
                return read_bounded(uri, local)
        import fsspec

        with fsspec.open(uri, "rb") as file:
            return read_bounded(uri, file)
    except FileNotFoundError:
        return None
    except SignatureError:
        raise
    except PermissionError as error:
        if "://" in uri:  # an object store says so of a file that is missing, too
            return None
        raise SignatureError(
            f"signature '{uri}' cannot be read by this user; give Airflow's user or group read permission"
        ) from error
    except Exception as error:  # every storage has a library with errors of its own
        raise SignatureError(f"signature '{uri}' cannot be read: {error}") from error


def read_bounded(uri: str, file: IO[bytes]) -> bytes:
    """All of a file; raises `SignatureError` if it is longer than any signature or baseline."""
    content = b""
    while part := file.read(LARGEST_BYTES + 1 - len(content)):  # over HTTP, a file may come in pieces
        content += part
    if len(content) > LARGEST_BYTES:
        raise SignatureError(
            f"'{uri}' has more than {LARGEST_BYTES >> 20} MB, which no signature or baseline has"
        )
    return content
