"""`model:` of a model."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainValidator,
    PrivateAttr,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from mlops_plugin.config.format_names import (
    NATIVE_FORMATS,
    OWN_FORMATS,
    SIGNATURE_SUFFIX,
    check_format,
    is_foreign,
)
from mlops_plugin.config.parameter_types import (
    SHA256_PATTERN,
    ConnectionId,
    Sha256,
    Text,
    Url,
    check_unique,
)
from mlops_plugin.config.schema.section import Section
from mlops_plugin.errors import RegistryError

_DTYPES = (
    "integer|number|boolean|text|date|timestamp|decimal|bytes|json|bool|str|string|object|time"
    "|u?int(8|16|32|64)|float(32|64)|U?Int(8|16|32|64)|Float(32|64)"
    r"|(datetime|timedelta)64\[(s|ms|us|ns)\]"
)

_LONGEST_NAME = 200  # bytes, of a file that has more in its name
_SIGNATURES = "signatures"  # a folder beside the configuration: of versions in registries
PYTHON, MLFLOW = "python", "mlflow"
REGISTERED = "models:/"
_VERSION = r"models:/[^/@:]+(?:@[^/@:]+|/[0-9]+)"
_TYPED = ("polars", "arrow")  # containers with the types of the query's columns
# `FOLDER/package.module:name`
_PLACE = r"(?:.*/)?[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*"


def _check_dtype(dtype: str) -> str:
    if not re.fullmatch(_DTYPES, dtype):
        raise ValueError(
            f"'{dtype}' is not a feature type; write integer, number, boolean, text, date, timestamp, "
            "decimal, bytes or json, or a type of NumPy or pandas such as float32, Int64 or datetime64[ns]"
        )
    return dtype


Format = Annotated[
    str, PlainValidator(check_format), WithJsonSchema({"type": "string", "enum": [*OWN_FORMATS]})
]
ClassLabel = StrictBool | StrictInt | StrictFloat | Text
Dtype = Annotated[Text, AfterValidator(_check_dtype)]


class EnvironmentConfig(Section):
    """`model: {environment: ...}`: the libraries with which a model runs, in place of Airflow's."""

    requirements: Text = Field(
        description="A requirements file, relative to the folder of this configuration: what `uv pip compile "
        "--generate-hashes` or `pip freeze` writes.",
        examples=["envs/churn.txt"],
    )
    python: Annotated[str, Field(pattern=r"^3\.1[0-9]$")] = Field(
        description="The Python that runs it, from 3.10 on; it must be installed on each machine that runs "
        "the model.",
        examples=["3.11"],
    )
    _as_written: str | None = PrivateAttr(default=None)

    @field_validator("python", mode="before")
    @classmethod
    def _read_python(cls, python: object) -> object:
        """YAML takes it for a number unless it is in quotes."""
        if isinstance(python, float):
            if python == 3.1:
                raise ValueError("YAML reads 3.10 as 3.1; write it in quotes")
            return str(python)
        return python

    @property
    def requirements_as_written(self) -> str:
        return self._as_written or self.requirements

    def located_in(self, folder: Path) -> EnvironmentConfig:
        """The same with an absolute path."""
        located = self.model_copy(update={"requirements": str(folder / self.requirements)})
        located._as_written = self.requirements_as_written
        return located


class ArtifactConfig(Section):
    """`model:` of a model: which file, in which format, and what it may contain."""

    format: Format = Field(
        description="How the file was saved. joblib and pickle files can run code when loaded, "
        "so they need `sha256`. lightgbm, xgboost, catboost, onnx: the library's own file, which holds no "
        "code. A name with a dot, e.g. acme.scorecard: a format that an installed package registers; the "
        "file needs `sha256`. mlflow: a folder or archive that MLflow has logged. python: a function or "
        "class in a package of your own.",
        examples=["skops"],
    )
    uri: Url = Field(
        description="The file: a path, relative to the folder of this configuration, or an fsspec URL. "
        "mlflow: also a folder, and models:/NAME@ALIAS or models:/NAME/VERSION in a registry. "
        "python: package.module:function or package.module:Class, in a package that lies in that folder, "
        "or where Python finds modules.",
        examples=["models/churn.skops", "s3://models/churn.skops"],
    )
    connection: ConnectionId | None = Field(
        default=None,
        description="Airflow connection (HTTP) of the MLflow server, if `uri` is models:/...: host, port, "
        "schema, and user and password, or a token as password.",
        examples=["mlflow"],
        validate_default=True,
    )
    sha256: Sha256 | Annotated[tuple[Sha256, ...], Field(min_length=1)] | None = Field(
        default=None,
        description="SHA-256 of the file in 64 hex digits, as `sha256sum FILE` prints it (python: of the "
        "package, mlflow: of the folder, see docs/formats.md); a file with another hash is refused. Required "
        "for joblib, pickle, and formats of other packages, and for an mlflow model that is pickled. mlflow: "
        "also a list of hashes, of versions that an alias may move among.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
        validate_default=True,
    )
    signature_sha256: Sha256 | None = Field(
        default=None,
        description="SHA-256 of the file's signature, `URI.signature.json`, in 64 hex digits; if it "
        "differs or is missing, the model is refused. null: a signature is used if there is one. Not for "
        "models:/NAME@ALIAS, each of whose versions has a signature of its own.",
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    )
    tolerance: Annotated[float, Field(ge=0, le=0.001)] | None = Field(
        default=None,
        description="The largest relative difference between the numbers that the model answers for its "
        "golden rows and those in the signature; 0: none. null: 1e-9, and 1e-5 for models that compute "
        "with 32 bits.",
        examples=[0],
    )
    trusted: tuple[Text, ...] = Field(
        default=(),
        description="skops, also inside of mlflow: types in the file, beyond those skops knows, that may be "
        "loaded.",
        examples=[["sklearn._loss.link.LogitLink"]],
        validate_default=True,
    )
    container: Literal["frame", "matrix", "documents", "polars", "arrow"] | None = Field(
        default=None,
        description="What the model was trained on, if its file does not record it: a DataFrame, an array, "
        "or the "
        "texts of one column. python: what the code is given: a pandas DataFrame (also for null), an array, "
        "texts, a Polars DataFrame, or an Arrow table.",
        examples=["documents"],
    )
    dtypes: dict[Text, Dtype] | None = Field(
        default=None,
        description="Types of features in training, if the file does not record them: integer, number, "
        "boolean, "
        "text, date, timestamp, decimal, bytes, json, or a type of NumPy or pandas (float32, "
        "Int64, datetime64[ns]).",
        examples=[{"store": "integer", "rate": "float32"}],
    )
    classes: Annotated[tuple[ClassLabel, ...], Field(min_length=2)] | None = Field(
        default=None,
        description="The labels of a classifier's classes in the order of training, if its file does not "
        "hold them: lightgbm; xgboost, which has 0, 1, ... otherwise; some onnx files.",
        examples=[["stays", "leaves"], [0, 1]],
        validate_default=True,
    )
    isolation: Literal["process", "none"] | None = Field(
        default=None,
        description="Where a dispatch runs the model. process: in a separate process, without network, "
        "keys, connections, other files and programs; none: in the task's process, with all rights of the "
        "task. null: none for skops, process for every other format.",
        examples=["none"],
    )
    environment: EnvironmentConfig | None = Field(
        default=None,
        description="The model's own libraries and Python, e.g. of an older release of scikit-learn, in an "
        "environment that `mlops environments sync` builds. null: those of Airflow.",
        examples=[{"requirements": "envs/churn.txt", "python": "3.11"}],
        validate_default=True,
    )
    _uri_as_written: str | None = PrivateAttr(default=None)
    _folder: Path | None = PrivateAttr(default=None)
    _signature_uri: str | None = PrivateAttr(default=None)  # of a version in a registry

    @field_validator("uri")
    @classmethod
    def _check_uri(cls, uri: str, info: ValidationInfo) -> str:
        is_place = re.fullmatch(_PLACE, uri, re.ASCII) and "://" not in uri
        if info.data.get("format") == PYTHON and not is_place:
            raise ValueError(
                f"'{uri}' is no place in a package; write package.module:function or package.module:Class"
            )
        if uri.startswith(REGISTERED) and info.data.get("format") == MLFLOW:
            if not re.fullmatch(_VERSION, uri):
                raise ValueError(
                    f"'{uri}' is no model version; write models:/NAME@ALIAS or models:/NAME/VERSION"
                )
        elif uri.startswith(REGISTERED):
            raise ValueError(f"a model of a registry has `format: {MLFLOW}`")
        return uri

    @field_validator("connection")
    @classmethod
    def _check_connection(cls, connection: str | None, info: ValidationInfo) -> str | None:
        is_registered = info.data.get("uri", "").startswith(REGISTERED)
        if is_registered and connection is None:
            raise ValueError("missing: the Airflow connection (HTTP) of the MLflow server")
        if connection is not None and "uri" in info.data and not is_registered:
            raise ValueError("only for `uri: models:/...`; remove it")
        return connection

    @field_validator("sha256")
    @classmethod
    def _check_sha256(
        cls, sha256: str | tuple[str, ...] | None, info: ValidationInfo
    ) -> str | tuple[str, ...] | None:
        file_format = info.data.get("format")
        uri = info.data.get("uri", "FILE")
        if sha256 is None:
            if file_format in ("joblib", "pickle") or (file_format and is_foreign(file_format)):
                raise ValueError(
                    f"required for {file_format}, which can run code when loaded; `sha256sum {uri}` prints it"
                )
            return None
        is_list = not isinstance(sha256, str)
        if is_list and file_format not in (MLFLOW, None):
            raise ValueError(
                f"a list is for format {MLFLOW}, but the format is {file_format}; write one hash"
            )
        pins = sha256 if not isinstance(sha256, str) else (sha256,)
        for pin in pins:
            if not re.fullmatch(SHA256_PATTERN, pin):
                raise ValueError(f"'{pin}' is not 64 hex digits; `sha256sum {uri}` prints them")
        return check_unique(tuple(pin.lower() for pin in pins)) if is_list else pins[0].lower()

    @field_validator("signature_sha256")
    @classmethod
    def _check_signature_sha256(cls, sha256: str | None, info: ValidationInfo) -> str | None:
        uri = info.data.get("uri", "")
        if sha256 is not None and uri.startswith(REGISTERED) and "@" in uri:
            raise ValueError("not for an alias, each of whose versions has a signature of its own; remove it")
        if sha256 is None or re.fullmatch(SHA256_PATTERN, sha256):
            return None if sha256 is None else sha256.lower()
        raise ValueError(f"'{sha256}' is not 64 hex digits; `mlops sign` and `sha256sum` print them")

    @field_validator("trusted")
    @classmethod
    def _check_trusted(cls, trusted: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        file_format = info.data.get("format", "skops")
        if trusted and file_format not in ("skops", MLFLOW):
            raise ValueError(f"only for format skops, but the format is {file_format}; remove it")
        return check_unique(trusted)

    @field_validator("container")
    @classmethod
    def _check_container(cls, container: str | None, info: ValidationInfo) -> str | None:
        file_format = info.data.get("format")
        if container is not None and file_format in NATIVE_FORMATS:
            raise ValueError(f"not for format {file_format}, whose models all read one container; remove it")
        if container in _TYPED and file_format not in (PYTHON, None):
            raise ValueError(f"only for format {PYTHON}, but the format is {file_format}; remove it")
        return container

    @field_validator("dtypes")
    @classmethod
    def _check_dtypes(cls, dtypes: dict[str, str] | None, info: ValidationInfo) -> dict[str, str] | None:
        container = info.data.get("container")
        if dtypes and container in _TYPED:
            raise ValueError(f"not for container {container}, which has the query's types; cast in the query")
        return dtypes

    @field_validator("classes")
    @classmethod
    def _check_classes(
        cls, classes: tuple[ClassLabel, ...] | None, info: ValidationInfo
    ) -> tuple[ClassLabel, ...] | None:
        if classes is None:
            return None
        file_format = info.data.get("format", NATIVE_FORMATS[0])
        if file_format not in (*NATIVE_FORMATS, MLFLOW):
            raise ValueError(f"not for format {file_format}, whose files hold them; remove it")
        kinds = {type(label).__name__ for label in classes}
        if len(kinds) > 1:
            raise ValueError(
                f"labels of several types ({', '.join(sorted(kinds))}); YAML reads yes and no as true and "
                "false: write texts in quotes"
            )
        if len(set(classes)) < len(classes):
            raise ValueError("a label is listed twice")
        return classes

    @field_validator("environment")
    @classmethod
    def _check_environment(
        cls, environment: EnvironmentConfig | None, info: ValidationInfo
    ) -> EnvironmentConfig | None:
        if environment is not None and info.data.get("isolation") == "none":
            raise ValueError("it has a Python of its own, so isolation cannot be none; remove one of them")
        return environment

    def as_data(self) -> dict[str, object]:
        """As JSON, for a process that has no pydantic: with what is derived."""
        derived = {"is_code": self.is_code, "may_be_folder": self.may_be_folder, "pins": list(self.pins)}
        return {**self.model_dump(mode="json"), **derived, "signature_uri": self.signature_uri}

    @property
    def signature_uri(self) -> str:
        """Where its signature is, or would be; raises `RegistryError` without the version that this needs."""
        if self._signature_uri is None and self.is_registered:
            raise RegistryError(f"'{self.uri}': nobody has asked yet which version it is")
        return self._signature_uri or self.uri + SIGNATURE_SUFFIX

    @property
    def has_version(self) -> bool:
        """Whether it is known which version in a registry it is."""
        return self._signature_uri is not None

    def of_version(self, name: str, version: str) -> ArtifactConfig:
        """The same as this version in its registry, whose signature lies beside the configuration."""
        found = self.model_copy()
        if len(name.encode()) > _LONGEST_NAME:
            name = f"{name[:40]}-{sha256(name.encode()).hexdigest()[:16]}"
        folder = (self._folder or Path()) / _SIGNATURES / (self.connection or "")
        found._signature_uri = str(folder / f"{name}-{version}{SIGNATURE_SUFFIX}")
        return found

    @property
    def is_code(self) -> bool:
        """Whether it is a package's code, not a file."""
        return self.format == PYTHON

    @property
    def may_be_folder(self) -> bool:
        """Whether it is an MLflow model: a folder, or an archive of one."""
        return self.format == MLFLOW

    @property
    def is_registered(self) -> bool:
        """Whether it is a version in a registry, whose files are not known before it is asked."""
        return self.may_be_folder and self.uri.startswith(REGISTERED)

    @property
    def pins(self) -> tuple[str, ...]:
        """The hashes that `sha256` accepts; none: any."""
        pins = (self.sha256,) if isinstance(self.sha256, str) else self.sha256 or ()
        return tuple(pin.strip().lower() for pin in pins)

    @property
    def is_isolated(self) -> bool:
        """Whether a dispatch runs the model in a process of its own. skops files run no code of their own.

        Nor do those of other libraries, but these are read by native code that a broken file may crash.
        """
        if self.environment is not None:
            return True
        return (self.isolation or ("none" if self.format == "skops" else "process")) == "process"

    @property
    def risk_without_isolation(self) -> str | None:
        """What such a file can do to a process that loads it; None: nothing beyond its trusted types."""
        if self.format in ("joblib", "pickle"):
            return "a joblib or pickle file can run any code: it can use the task's connections and keys"
        if self.format in NATIVE_FORMATS:
            return f"native code reads a {self.format} file: a damaged or forged one can crash the task"
        if self.may_be_folder:
            return "an mlflow model may be pickled: it could use the task's connections and keys"
        if is_foreign(self.format):
            return f"a {self.format} file may run any code: it could use the task's connections and keys"
        return None

    def located_in(self, folder: Path) -> ArtifactConfig:
        """The same artifact with an absolute path if `uri` is a path relative to `folder`."""
        update: dict[str, object] = {}
        if self.environment is not None:
            update["environment"] = self.environment.located_in(folder)
        if "://" not in self.uri and not self.is_registered:
            update["uri"] = str(folder / self.uri)
        located = self.model_copy(update=update)
        located._uri_as_written, located._folder = self.uri, folder
        return located
