"""The keyed digest of a client secret: enough to recognise it, not to have it."""

from __future__ import annotations

from django.conf import settings
from django.utils.crypto import salted_hmac

from .secret import Secret


def digest(client_secret: str) -> str:
    """Return 64 hexadecimal digits, keyed with SECRET_KEY: the table alone cannot confirm a guess."""
    return _digest(client_secret, _hidden(settings.SECRET_KEY))


def digests(client_secret: str) -> list[str]:
    """Return the digests under SECRET_KEY and its fallbacks, so that changing the key ends no session."""
    keys = map(_hidden, (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))
    return [_digest(client_secret, key) for key in keys]


def _digest(client_secret: str, key: str | bytes) -> str:
    # What claims to be a secret may come from a browser: half of a surrogate pair is none, but no failure.
    value = Secret(client_secret.encode(errors="backslashreplace").decode())
    return salted_hmac("chatkit_sessions.digests", value, secret=key, algorithm="sha256").hexdigest()


def _hidden(key: str | bytes) -> str | bytes:
    return Secret(key) if isinstance(key, str) else key
