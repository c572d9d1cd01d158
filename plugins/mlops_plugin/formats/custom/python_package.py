"""A package of the deployment's own that is a model: where it lies, its hash, and its import by that hash.

The hash is of all files that lie in the package, and the modules that are imported are those that were
hashed: no cached bytecode, no file that changed since.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType

from mlops_plugin.errors import ArtifactChanged, ArtifactError

_MOST_FILES = 10_000
_MOST_BYTES = 1 << 30
_PLACE = re.compile(r"(?:(.*)/)?((\w+)(?:\.\w+)*):(\w+)")


@dataclass(frozen=True)
class Place:
    """`FOLDER/package.module:name`: what to import, and the folder where its package is looked for first."""

    uri: str
    folder: str
    module: str
    package: str
    name: str

    @classmethod
    def of(cls, uri: str) -> Place:
        """Raises `ArtifactError` if it has another form."""
        found = _PLACE.fullmatch(uri)
        if found is None:
            raise ArtifactError(f"'{uri}' is no place in a package; write package.module:name")
        return cls(uri, found[1] or ".", found[2], found[3], found[4])


def find_package(place: Place) -> Path:
    """The package's folder, or its file if it is a module: in the place's folder, or else where Python looks.

    Imports nothing. Raises `ArtifactError` if there is none.
    """
    beside = Path(place.folder, place.package)
    # Not by Python's finder, which lists the folder: a confined process may not.
    for file in (beside / "__init__.py", beside.with_suffix(".py")):
        if file.is_file():
            return beside if file.parent == beside else file
    importlib.invalidate_caches()  # it may have been written just now
    spec = PathFinder.find_spec(place.package)
    if spec is not None and isinstance(spec.loader, SourceFileLoader):
        file = Path(str(spec.origin))
        return file if spec.submodule_search_locations is None else file.parent
    bare = [str(beside)] if beside.is_dir() else [*((spec and spec.submodule_search_locations) or ())]
    if bare:
        raise ArtifactError(
            f"model '{place.uri}': the folder {bare[0]} has no __init__.py, so it is no package of its own; "
            "add one"
        )
    if spec is not None:
        raise ArtifactError(f"model '{place.uri}': '{place.package}' is no Python source that can be read")
    raise ArtifactError(
        f"model '{place.uri}': there is no package '{place.package}', neither beside config.yaml nor where "
        "Python finds modules; deploy it wherever Airflow runs tasks or serves views"
    )


def package_sha256(place: Place) -> str:
    """SHA-256 (64 hex digits) of the package as it is now.

    Of a module that is one file, that of the file; of a package, that of the lines for all of its
    files, sorted by path, as `sha256sum` prints them in the folder that holds the package.
    """
    root = find_package(place)
    return _whole(root, _hashes(root, place.uri))


def import_verified(place: Place, pinned: str | None) -> tuple[object, str]:
    """What is at that place, and the package's hash; raises `ArtifactChanged` if it is not the pinned one.

    Raises `ArtifactError` if it cannot be imported, or there is no such name.
    """
    root = find_package(place)
    files = _hashes(root, place.uri)
    sha256 = _whole(root, files)
    if pinned is not None and pinned != sha256:
        raise ArtifactChanged(
            f"model '{place.uri}' is not the pinned one: the SHA-256 of its package is {sha256}, `sha256:` "
            f"pins {pinned}; restore the package, or pin the new hash if you know what changed"
        )
    _take_place(_HashedFinder(place, root, files, sha256))
    try:
        module = importlib.import_module(place.module)
    except (MemoryError, ArtifactError):
        raise
    except (Exception, SystemExit) as exc:
        reason = f"{type(exc).__name__}: {str(exc).partition(chr(10))[0] or 'no reason given'}"
        raise ArtifactError(
            f"model '{place.uri}': the module '{place.module}' cannot be imported: {reason}"
        ) from exc
    _require_inside(place, module, files)
    try:
        return getattr(module, place.name), sha256
    except AttributeError as exc:
        raise ArtifactError(
            f"model '{place.uri}': the module '{place.module}' ({module.__file__}) has no '{place.name}'"
        ) from exc


def _require_inside(place: Place, module: ModuleType, files: Mapping[str, str]) -> None:
    if str(module.__file__) not in files:
        raise ArtifactError(
            f"model '{place.uri}': the module '{place.module}' comes from {module.__file__}, outside of its "
            "package; name the module that is in the package"
        )


def _hashes(root: Path, uri: str) -> dict[str, str]:
    """The hash of each file by its path."""
    found: dict[str, str] = {}
    size = 0
    for file in [root] if root.is_file() else _files(root):
        try:
            content = file.read_bytes()
        except OSError as exc:
            raise ArtifactError(f"model '{uri}': {file} cannot be read: {exc.strerror}") from exc
        found[str(file)] = hashlib.sha256(content).hexdigest()
        size += len(content)
        if len(found) > _MOST_FILES or size > _MOST_BYTES:
            raise ArtifactError(
                f"model '{uri}': its package {root} has more than {_MOST_FILES} files or {_MOST_BYTES} "
                "bytes; give the model a package of its own"
            )
    return found


def _files(root: Path) -> Iterator[Path]:
    """What lies in a package: no bytecode that Python has cached, and nothing hidden."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder above
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        yield from (
            file for name in files if not name.startswith(".") and (file := Path(folder, name)).is_file()
        )


def _whole(root: Path, files: Mapping[str, str]) -> str:
    if root.is_file():
        return files[str(root)]
    named = {Path(path).relative_to(root.parent).as_posix(): sha256 for path, sha256 in files.items()}
    lines = [f"{named[path]}  {path}\n".encode() for path in sorted(named, key=str.encode)]
    return hashlib.sha256(b"".join(lines)).hexdigest()


class _HashedFinder(MetaPathFinder):
    """Finds the modules of one package, in the files that were hashed."""

    def __init__(self, place: Place, root: Path, files: Mapping[str, str], sha256: str) -> None:
        self.place = place
        self.sha256 = sha256
        self._root = root
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != self.place.package:
            return None
        if fullname == self.place.package:
            is_file = self._root.is_file()
            file = str(self._root if is_file else self._root / "__init__.py")
            loader = _HashedLoader(fullname, file, self.place, self._files)
            within = None if is_file else [str(self._root)]
            return spec_from_file_location(fullname, file, loader=loader, submodule_search_locations=within)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader) and spec.origin is not None:
            spec.loader = _HashedLoader(fullname, spec.origin, self.place, self._files)
            spec.cached = None
        return spec


class _HashedLoader(SourceFileLoader):
    """Compiles a module's source each time, if it is the one that was hashed."""

    def __init__(self, fullname: str, path: str, place: Place, files: Mapping[str, str]) -> None:
        super().__init__(fullname, path)
        self._place = place
        self._files = files

    def get_code(self, fullname: str) -> CodeType:
        path = self.get_filename(fullname)
        source = self.get_data(path)
        if self._files.get(str(path)) != hashlib.sha256(source).hexdigest():
            raise ArtifactChanged(
                f"model '{self._place.uri}': {path} changed while the model was loaded; try again"
            )
        return self.source_to_code(source, path)


def _take_place(finder: _HashedFinder) -> None:
    """Have the package imported by this finder from now on, and keep it if it was, with the same files.

    Raises `ArtifactError` if other code has imported it in this process: nobody knows from which sources.
    """
    package = finder.place.package
    for known in [each for each in sys.meta_path if isinstance(each, _HashedFinder)]:
        if known.place.package != package:
            continue
        if known.sha256 == finder.sha256 and known._root == finder._root:
            return
        sys.meta_path.remove(known)
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
    if package in sys.modules:
        raise ArtifactError(
            f"model '{finder.place.uri}': the package '{package}' is imported in this process already, maybe "
            "from other sources; give the model a package of its own, and leave out `isolation: none`"
        )
    sys.meta_path.insert(0, finder)
