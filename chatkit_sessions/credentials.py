"""The keys: which OpenAI project to talk to, and what its key is when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from django.utils.translation import gettext as _

from . import rules
from .bounds import ParameterError
from .exceptions import NotConfigured
from .secret import Secret


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """One OpenAI project to talk to."""

    api_key: str | Callable[[], str] | None = field(repr=False)
    base_url: str
    organization: str | None
    project: str | None

    def reveal_key(self) -> Secret:
        """Return the key, calling the callable that knows it.

        Raises:
            NotConfigured: there is none, or what the callable returned cannot be one.
        """
        key = self._called(self.api_key) if callable(self.api_key) else self.api_key
        key = Secret(key) if isinstance(key, str) else key
        if not key:
            raise NotConfigured(
                _(
                    "There is no API key: set OPENAI_API_KEY in the environment, "
                    "or API_KEY in CHATKIT_SESSIONS."
                )
            )
        try:
            rules.api_key("API_KEY", key)
        except ParameterError as err:
            raise NotConfigured(str(err)) from None
        return key

    @staticmethod
    def _called(source: Callable[[], str]) -> str:
        try:
            return source()
        except Exception as err:
            # Its words may hold what it read: only their kind is told.
            raise NotConfigured(
                _("The callable that returns the API key raised %(error)s; call it in a shell to see why.")
                % {"error": type(err).__name__}
            ) from None
