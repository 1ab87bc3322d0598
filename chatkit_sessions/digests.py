"""The keyed digest of a client secret: enough to recognise it, not to have it."""

from __future__ import annotations

from django.utils.crypto import salted_hmac


def digest(client_secret: str) -> str:
    """Return 64 hexadecimal digits, keyed with SECRET_KEY: the table alone cannot confirm a guess."""
    return salted_hmac("chatkit_sessions.digests", client_secret, algorithm="sha256").hexdigest()
