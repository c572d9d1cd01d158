"""A password as PostgreSQL keeps it, checked like every other, but soon."""

from __future__ import annotations

import base64
import hashlib
import hmac

_SALT = b"a salt of tests "


def scram_verifier(password: str) -> str:
    """What SCRAM-SHA-256 asks the password for in one round (RFC 5803).

    PostgreSQL's own takes 4,096 rounds: 4 ms of the client at each connection.
    """
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), _SALT, iterations=1)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    salt, stored_key, server_key = (
        base64.b64encode(part).decode()
        for part in (_SALT, stored, hmac.digest(salted, b"Server Key", "sha256"))
    )
    return f"SCRAM-SHA-256$1:{salt}${stored_key}:{server_key}"
