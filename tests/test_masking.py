"""Each way in which a secret is written is found in a text, and nothing else is."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import quote, quote_plus

import pytest

from mlops_plugin.connections import ConnectionSpec
from mlops_plugin.errors import DatabaseError, MlopsError, Problem
from mlops_plugin.masking import KnownSecrets, learn, masked, masked_values, secrets_in
from support.forgotten_secrets import forget_secrets

HARD = "p@ss w}rd'/\"\\ü<&>"
KEY_FILE = """-----BEGIN PRIVATE KEY-----
MIIEvQIBADANBgkqhkiG9w0B
AQEFAASCBKcwggSjAgEAAoIB
-----END PRIVATE KEY-----
"""


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    forget_secrets()


def known(*secrets: str) -> KnownSecrets:
    found = KnownSecrets()
    found.learn(secrets)
    return found


@pytest.mark.parametrize(
    "spelling",
    [
        HARD,
        quote(HARD),
        quote(HARD, safe=""),
        re.sub("%..", lambda code: code[0].lower(), quote(HARD, safe="")),
        quote_plus(HARD),
        HARD.replace("}", "}}"),
        HARD.replace("'", "''"),
        json.dumps(HARD)[1:-1],
        json.dumps(HARD, ensure_ascii=False)[1:-1],
        repr(HARD)[1:-1],
        HARD.upper(),
        base64.b64encode(HARD.encode()).decode().rstrip("="),
        HARD.encode().hex(),
    ],
)
def test_every_spelling_of_a_secret_is_masked(spelling: str) -> None:
    assert known(HARD).mask(f"near '{spelling}' in line 1") == "near '***' in line 1"


def test_a_key_file_is_masked_as_a_whole_on_one_line_and_line_by_line() -> None:
    secrets = known(KEY_FILE)
    assert secrets.mask(f"<{KEY_FILE}>") == "<***>"
    assert secrets.mask(f"<{' '.join(KEY_FILE.split())}>") == "<***>"
    assert secrets.mask("bad line MIIEvQIBADANBgkqhkiG9w0B") == "bad line ***"
    assert secrets.mask("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


@pytest.mark.parametrize(
    "said",
    [
        "syntax error near 'f9876-long-password' AND 1' at line 1",  # from the quote within it
        "syntax error near 'x = ''it's f9876-long-pas' at line 1",  # MySQL cuts after 80 characters
        'LINE 1: ...f9876-long-password" FROM t',
        "LINE 1: SELECT 'it's f9876-lon...",
        "unclosed quotation mark after it's f9876-",
    ],
)
def test_a_part_of_a_secret_that_a_database_quotes_is_masked(said: str) -> None:
    shown = ConnectionSpec("c", "mysql", password="it's f9876-long-password").redact(said)
    assert "f9876" not in shown
    assert "***" in shown
    assert said.split()[0] in shown


def test_a_short_secret_is_masked_where_it_stands_alone() -> None:
    secrets = known("pw1", "airflow")
    assert secrets.mask("'pw1' pw12 xpw1 airflow apache_airflow") == "'***' pw12 xpw1 *** apache_airflow"


def test_of_two_secrets_that_begin_alike_nothing_is_left() -> None:
    assert known("hunter", "hunter2hunter").mask("hunter2hunter hunter") == "*** ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("DSN=x;UID=me;PWD=unknown1;", "DSN=x;UID=me;PWD=***;"),
        ("DSN=x;UID=me;PWD=un*known1;", "DSN=x;UID=me;PWD=***;"),
        ("Driver=x;PASSWORD={un;kn}}own};Port=1", "Driver=x;PASSWORD=***;Port=1"),
        ("host=h password=unknown1 dbname=d", "host=h password=*** dbname=d"),
        ("postgresql://me:unknown1@host/d", "postgresql://me:***@host/d"),
        ("s3://key:unk%2Fnown@bucket/x", "s3://key:***@bucket/x"),
        ("https://x.blob/y?sv=1&sig=unknown%2F1&se=2", "https://x.blob/y?sv=1&sig=***&se=2"),
        ("https://x/y?X-Amz-Signature=unknown1", "https://x/y?X-Amz-Signature=***"),
        ("https://x/y?token=un*known1&z", "https://x/y?token=***&z"),
        ("postgresql://me:unk@own1@host/d", "postgresql://me:***@host/d"),
        ("near \"password='unknown1", 'near "password=***'),
        ("MYSQL_PWD=unknown1 PGPASSWORD=unknown2 run", "MYSQL_PWD=*** PGPASSWORD=*** run"),
        ("WHERE has_password=1", "WHERE has_password=1"),
        ("WHERE HAS_PASSWORD=1 AND OLD_PWD=?", "WHERE HAS_PASSWORD=1 AND OLD_PWD=?"),
        ("ON T.NEW_PWD=U.OLD_PWD", "ON T.NEW_PWD=U.OLD_PWD"),
        ("http://x/showroom/churn?key=[1]&sort=a", "http://x/showroom/churn?key=[1]&sort=a"),
        ("http://host:8080/a@b", "http://host:8080/a@b"),
        ("WHERE passwords > 3 AND at = '10:20'", "WHERE passwords > 3 AND at = '10:20'"),
    ],
)
def test_a_password_in_a_connection_string_is_masked_although_nobody_told(text: str, shown: str) -> None:
    assert known().mask(text) == shown
    assert known().mask(shown) == shown


def test_of_a_password_with_a_secret_in_it_nothing_is_left() -> None:
    assert known("hidden").mask("PWD=hidden-1;") == "PWD=***;"
    assert known("hidden").mask("postgresql://me:a-hidden-1@host/d") == "postgresql://me:***@host/d"
    assert known("hidden").mask("https://x/y?token=a-hidden-1&z") == "https://x/y?token=***&z"


def test_what_airflow_masks_is_masked_in_every_spelling() -> None:
    from airflow.sdk.log import mask_secret

    mask_secret("from airflow/1")
    text = known().mask("from airflow/1 from%20airflow%2F1")
    assert text == "*** ***"


def test_airflow_masks_what_is_known_here() -> None:
    from airflow.sdk._shared.secrets_masker import redact

    known("to airflow'1")
    assert redact("to airflow'1 to airflow''1") == "*** ***"


def test_what_airflow_has_from_here_is_not_learnt_again() -> None:
    first, second = known("a secret/1"), known("b secret/2")
    for _ in range(3):
        first.mask("text")
        second.mask("text")
    assert "a%20secret/1" not in second._secrets
    assert "a%20secret/1" not in first._secrets


def test_the_secrets_of_an_extra_are_those_that_their_names_tell() -> None:
    extra = {
        "driver": "MariaDB Unicode",
        "dsn": "shop",
        "connection_string": "DRIVER=y;PWD=nine",
        "PWD": "one",
        "nested": [{"api_key": "two", "pin": 1}],
        "credentials": {"id": "three", "number": 4},
        "keyfile_dict": '{"private_key": "five"}',
        "connect": "DRIVER=x;Password={s}}ix};UID=me",
        "url": "//me:seven@host",
        "webhook_url": "https://chat.example/eight",
    }
    found = set(secrets_in(extra))
    assert {
        "one",
        "two",
        "three",
        "4",
        "five",
        "s}}ix",
        "seven",
        "https://chat.example/eight",
        "nine",
    } <= found
    assert not found & {"MariaDB Unicode", "shop", "1", "me", "DRIVER=x;Password={s}}ix};UID=me"}


def test_an_error_that_quotes_a_secret_learnt_later_does_not_show_it() -> None:
    error = DatabaseError("warehouse", "the query", "near 'learnt too late'")
    plain = MlopsError("learnt too late")
    learn(["learnt too late"])
    assert str(error) == "connection 'warehouse': the query failed: near '***'"
    assert str(plain) == "***"


def test_json_is_masked_in_its_values_and_keeps_its_names() -> None:
    learn(["in values"])
    assert masked_values({"in values": ["in values", 1, None, {"a": "<in values>"}]}) == {
        "in values": ["***", 1, None, {"a": "<***>"}]
    }


def test_what_a_file_of_tests_has_learnt_is_no_secret_to_the_next() -> None:
    from airflow.sdk._shared.secrets_masker import _secrets_masker
    from airflow.sdk.log import mask_secret

    learn(["of a file"])
    mask_secret("of airflow's file")
    text = "a word of a file, and of airflow's file"
    assert masked(text) == "a word ***, and ***"
    forget_secrets()
    assert masked(text) == text
    assert not _secrets_masker().patterns


def test_masking_loads_nothing_of_airflow() -> None:
    code = (
        "import sys; from mlops_plugin.masking import learn, masked; learn(['hunter22']);"
        "assert masked('hunter22') == '***'; assert not [m for m in sys.modules if m.startswith('airflow')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "piece", ["a-", "password={", "password='", 'pwd="', "://a:", "&a", "?token", "x://", "x://a:@", "A_PWD "]
)
def test_a_secret_at_the_end_of_a_text_made_to_keep_the_masker_busy_is_masked(piece: str) -> None:
    text = piece * (200_000 // len(piece)) + " 'a secret'"
    assert "a secret" not in known("a secret").mask(text)  # without bounds it takes minutes


def test_what_airflow_knows_is_not_told_to_it_in_other_spellings() -> None:
    # Airflow forks its parsing processes with what an earlier one told: spellings of spellings would grow.
    from airflow.sdk._shared.secrets_masker import _secrets_masker

    _secrets_masker().add_mask("p@ss/word of 'airflow'")
    before = set(_secrets_masker().patterns)
    assert KnownSecrets().mask("it is p%40ss%2Fword%20of%20%27airflow%27") == "it is ***"
    assert set(_secrets_masker().patterns) == before


def test_an_error_that_quotes_control_characters_cannot_deceive_a_terminal() -> None:
    quoted = "types: \x1b]52;c;cm0=\x07 \x9b2J\x00 \rok\r\n\tnext ü \U0001f600"
    shown = "types: \\x1b]52;c;cm0=\\x07 \\x9b2J\\x00 \\x0dok\r\n\tnext ü \U0001f600"
    assert str(MlopsError(quoted)) == shown
    assert str(Problem("config.yaml", 1, "", quoted)).endswith(shown)
