"""Masks secrets in every text that is stored, shown, logged or printed.

Who reads a secret calls `learn`; who hands out a text calls `masked`. What is known holds for the whole
process, as in Airflow's own secrets masker: an error does not know the connection whose password it quotes.
"""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import quote, quote_plus

MASK = "***"

# Airflow masks no shorter ones either. Ours are masked where they stand alone: in a word, they mean nothing.
SHORT = 5
_LEAST = 3  # characters; a shorter one says nothing, and masking it would spoil SQL and numbers
_OTHER_CASE = 8  # characters from which a secret is found in the other case, too
_LINE = 16  # characters from which a line of a secret of several lines (a key file) is one itself
_ENCODED = 512  # characters up to which base64 and hexadecimal forms are looked for
_SHORTEST_PART = 6
_LONGEST_WITH_PARTS = 100  # of a longer one (a key file), lines are looked for
_MASKERS = ("airflow.sdk._shared.secrets_masker", "airflow._shared.secrets_masker")
_SECRET_KEY = re.compile(
    r"pass|pwd|secret|token|credential|private|bearer|authorization|auth_header|webhook|keyfile"
    r"|api_?key|access_?key|account_?key|service_?key|service_account",
    re.IGNORECASE,
)
_KEY_FILE_EDGE = re.compile(r"-----(BEGIN|END) [A-Z ]+-----$")
# Secret for Airflow, but the first is a name, and of the second only the password is.
_NAMES_OF_ODBC = frozenset(("dsn", "connection_string"))
# In a connection string or URL: PWD=..., PASSWORD={...}, //user:password@
_IN_CONNECTION_STRING = re.compile(
    r"(?:pass\w*|pwd|secret|token)\s*=\s*(?:\{((?:[^}]|\}\})*)\}|([^;&\s]+))|//[^:/@\s]*:([^@\s]+)@",
    re.IGNORECASE,
)
# The same in any text, where nothing marks what is secret. The name is in the first group. Lengths are
# bounded: a text of a request may be made to keep the pattern busy.
_ASSIGNED = re.compile(
    r"(\b(?:password|passwd|pwd)=|(?<![\w.])(?-i:[A-Z][A-Z0-9_]{0,40}(?:PASSWORD|PWD))=(?!\d+(?![^\s;&,)])|[?:(]))"
    r"(?:\{(?:[^}]|\}\}){0,200}\}|'[^']{0,200}'|\"[^\"]{0,200}\"|['\"{]?[^\s;&,)'\"{]+)",
    re.IGNORECASE,
)
_IN_QUERY_STRING = re.compile(
    r"([?&](?:\w{0,40}token|sig|[\w-]{0,40}signature|\w{0,40}secret|(?:api|access|account)_?key|password|pwd)=)[^&\s'\"#]+",
    re.IGNORECASE,
)
_IN_URL = re.compile(r"(\b\w[\w+.-]{0,30}://[^\s:/@'\"]{0,200}:)[^\s/'\"]{1,200}(?=@)")


class KnownSecrets:
    """Secrets, and each way in which one is written; several threads may use it at once."""

    # Patterns that Airflow has from here: like its maskers, of the whole process.
    _passed_on: ClassVar[set[str]] = set()

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._secrets: set[str] = set()
        self._of_airflow: set[str] = set()  # patterns of Airflow's maskers that are known here
        self._pattern: re.Pattern[str] | None = None  # None if it has to be made

    def learn(self, secrets: Iterable[str]) -> None:
        """Know these from now on; Airflow's maskers, which clean its logs and pages, learn them as well."""
        with self._lock:
            added = _worth_masking(self._add(secrets))
            self._passed_on.update(map(re.escape, added))
        _pass_to_airflow(added)

    def _add(self, secrets: Iterable[str]) -> set[str]:
        """Know these, and return those that are new."""
        new = {secret for secret in secrets if len(secret) >= _LEAST} - self._secrets
        if new:
            self._secrets |= new
            self._pattern = None
        return new

    @property
    def secrets(self) -> frozenset[str]:
        """As they were learnt."""
        with self._lock:
            return frozenset(self._secrets)

    def mask(self, text: str) -> str:
        """`text` with each known secret, in whichever way it is written, replaced by `MASK`."""
        self._learn_from_airflow()
        with self._lock:
            if self._pattern is None:
                self._pattern = _pattern_of(self._secrets)
            pattern = self._pattern
        text = pattern.sub(MASK, text)
        for telling in (_ASSIGNED, _IN_QUERY_STRING, _IN_URL):
            text = telling.sub(rf"\1{MASK}", text)
        return text

    def _learn_from_airflow(self) -> None:
        """Airflow knows what it has handed to templates, but not how a URL or SQL writes it.

        Airflow does not get these: a process that it forks finds in its masker what an earlier one passed on,
        and would pass on spellings of spellings, more with each process.
        """
        for name in _MASKERS:
            if (module := sys.modules.get(name)) is None:
                continue
            patterns = set(module._secrets_masker().patterns) - self._of_airflow - self._passed_on
            if patterns:
                self._of_airflow |= patterns
                for pattern in patterns:
                    secret = re.sub(r"\\(.)", r"\1", pattern, flags=re.DOTALL)
                    with self._lock:
                        self._add([secret, *_secrets_in_text(secret, is_secret=False)])


_known = KnownSecrets()
learn = _known.learn
masked = _known.mask


def masked_values(value: Any) -> Any:
    """JSON with all its texts masked; names stay."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {name: masked_values(item) for name, item in value.items()}
    return [masked_values(item) for item in value] if isinstance(value, list | tuple) else value


def without(secrets: Iterable[str], text: str) -> str:
    """What a driver says, without these secrets, which need not be known, and without those that are.

    Databases quote a statement from where they did not understand it, and cut what is long: a secret may
    begin or end there.
    """
    text = masked(_pattern_of(secrets).sub(MASK, text))
    return _parts_of({*secrets, *_known.secrets}).sub(MASK, text)


def secrets_in(value: object, *, is_secret: bool = False) -> Iterator[str]:
    """The secrets in a connection's extra or in a Variable: what a name gives away, at any depth.

    `is_secret`: whether all of it is one, because of the name that it stands under.
    """
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from secrets_in(item, is_secret=is_secret or is_secret_name(str(name)))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from secrets_in(item, is_secret=is_secret)
    elif isinstance(value, str):
        yield from _secrets_in_text(value, is_secret=is_secret)
    elif is_secret and isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is secret: by our list, or by Airflow's and the deployment's."""
    if _SECRET_KEY.search(name):
        return True
    if name.lower() in _NAMES_OF_ODBC:
        return False
    module = sys.modules.get(_MASKERS[0])
    return module is not None and bool(module.should_hide_value_for_key(name))


def _secrets_in_text(text: str, *, is_secret: bool) -> Iterator[str]:
    if is_secret and text:
        yield text
    if text.lstrip()[:1] in ("{", "["):  # JSON within JSON, e.g. keyfile_dict
        with contextlib.suppress(ValueError, RecursionError):
            yield from secrets_in(json.loads(text), is_secret=is_secret)
    for match in _IN_CONNECTION_STRING.finditer(text):
        if found := next((group for group in match.groups() if group), None):
            yield found


def _spellings_of(secret: str) -> set[str]:
    """How a secret is written: as typed, in other syntax, in base64, in the other case."""
    found = {secret, " ".join(secret.split()), *_in_syntaxes(secret)}
    found |= {line.strip() for line in secret.splitlines() if len(line.strip()) >= _LINE}
    if SHORT <= len(secret) <= _ENCODED:
        data = secret.encode(errors="surrogatepass")
        found |= {
            encode(data).decode().rstrip("=") for encode in (base64.b64encode, base64.urlsafe_b64encode)
        }
        found.add(data.hex())
    if len(secret) >= _OTHER_CASE:
        found |= {secret.upper(), secret.lower()}
    return {
        spelling for spelling in found if spelling not in ("", MASK) and not _KEY_FILE_EDGE.match(spelling)
    }


def _in_syntaxes(secret: str) -> Iterator[str]:
    """In a URL, a connection string, SQL, JSON, HTML and Python."""
    data = secret.encode(errors="surrogatepass")
    for safe in ("/", ""):
        quoted = quote(data, safe=safe)
        yield from (quoted, re.sub("%..", lambda code: code[0].lower(), quoted))
    yield quote_plus(data)
    yield secret.replace("}", "}}")
    yield secret.replace("'", "''")
    yield secret.replace("\\", "\\\\").replace("'", "\\'")
    yield repr(secret)[1:-1]
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    yield html.escape(secret)


def _pattern_of(secrets: Iterable[str]) -> re.Pattern[str]:
    """Longest first: of two that begin alike, the longer one is there."""
    spellings = {spelling for secret in secrets for spelling in _spellings_of(secret)}
    ordered = sorted(spellings, key=lambda spelling: (-len(spelling), spelling))
    return re.compile("|".join(map(_one_pattern, ordered)) or r"(?!)")


def _parts_of(secrets: Iterable[str]) -> re.Pattern[str]:
    """The ends of secrets behind a quote, and their beginnings before one or before dots."""
    ends: set[str] = set()
    beginnings: set[str] = set()
    for secret in secrets:
        if len(secret) <= _LONGEST_WITH_PARTS:
            ends |= {secret[start:] for start in range(1, len(secret) - _SHORTEST_PART + 1)}
            beginnings |= {secret[:stop] for stop in range(_SHORTEST_PART, len(secret))}
    longest_first = [
        *(rf"(?<=['\"`.]){re.escape(end)}" for end in sorted(ends, key=len, reverse=True)),
        *(rf"{re.escape(one)}(?=['\"`]|\.\.\.|…|$)" for one in sorted(beginnings, key=len, reverse=True)),
    ]
    return re.compile("|".join(longest_first) or r"(?!)")


def _one_pattern(spelling: str) -> str:
    pattern = re.escape(spelling)
    if len(spelling) >= SHORT and spelling.lower() != "airflow":
        return pattern
    return rf"(?<!\w){pattern}(?!\w)"


def _worth_masking(secrets: Iterable[str]) -> list[str]:
    """What Airflow should mask; it compares with all of them, and refuses short ones with a warning."""
    spellings = {spelling for secret in secrets for spelling in (secret, *_in_syntaxes(secret))}
    return sorted(spelling for spelling in spellings if len(spelling) >= SHORT)


def _pass_to_airflow(spellings: Iterable[str]) -> None:
    if _MASKERS[0] not in sys.modules:
        return  # who imports it later has its logs cleaned of what Airflow itself has read
    from airflow.sdk.log import mask_secret

    for spelling in spellings:
        mask_secret(spelling)
