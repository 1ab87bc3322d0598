"""The key: where it comes from, and what of it may be shown."""

from __future__ import annotations

from django.utils.translation import gettext as _

from chatkit_sessions.conf import Settings, key_source
from chatkit_sessions.exceptions import NotConfigured

from .findings import Finding, error, ok

# What is shown of a shorter one would be too much of it.
MIN_SHOWN_LENGTH = 20


def about_key(settings: Settings, credentials: str) -> Finding:
    """Say which key is used with these credentials, and where it comes from."""
    source = key_source(settings, credentials)
    cure = _("Set OPENAI_API_KEY in the environment, or API_KEY in CHATKIT_SESSIONS.")
    try:
        project = settings.credentials_for(credentials)
        if not project.api_key:
            return error("key", _missing(source), cure)
        key = project.reveal_key()
    except NotConfigured as err:
        return error("key", str(err), _("Look at %(source)s.") % {"source": source} if source else "")
    found = _("%(key)s, which the function in %(source)s returned.")
    if not callable(project.api_key):
        found = _("%(key)s, from %(source)s.")
    return ok("key", found % {"key": masked(key), "source": source})


def masked(key: str) -> str:
    """Return as much of a key as tells it from others: the only place where a part of one is ever shown."""
    return f"{key[:3]}...{key[-4:]}" if len(key) >= MIN_SHOWN_LENGTH else "***"


def _missing(source: str) -> str:
    if not source:
        return _("There is no API key.")
    return _("There is no API key: %(source)s is empty, and wins over the environment.") % {"source": source}
