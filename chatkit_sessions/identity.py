"""Who a session is for, and what the API knows them by."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.http import HttpRequest
from django.utils.module_loading import import_string
from django.utils.translation import gettext as _

from . import bounds
from .bounds import ParameterError
from .conf import Settings, setting_name
from .exceptions import ChatKitSessionsError, InvalidRequest, NotAuthenticated, NotConfigured
from .visitors import visitor_id

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser

logger = logging.getLogger("chatkit_sessions")

# What the API knows the site itself by, when it tries whether sessions can be had.
SITE_IDENTIFIER = "chatkit-doctor"
# Joins the workflow's slug to the identifier where the workflow keeps its own history.
ISOLATION_MARK = "#"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """One person.

    Attributes:
        user: the account, of whichever user model the site has, or None.
        identifier: what the API knows the person by, prefix included.
        is_visitor: whether it is somebody without an account, known by a cookie only.
        is_site: whether it is the site itself, which no group keeps out.
        is_given: whether whoever asks named the identifier, and so is told what is wrong with it.
    """

    user: Any
    identifier: str
    is_visitor: bool = False
    is_site: bool = False
    is_given: bool = field(default=False, compare=False)

    @property
    def key(self) -> str:
        """Return the digest under which the person's sessions are found and counted."""
        return hashlib.sha256(self.identifier.encode()).hexdigest()

    @cached_property
    def group_names(self) -> frozenset[str]:
        """Return the names of the account's groups, looked up once."""
        groups = getattr(self.user, "groups", None)  # a user model need not have any
        return frozenset() if groups is None else frozenset(groups.values_list("name", flat=True))

    def identifier_for(self, slug: str, *, isolate_history: bool) -> str:
        """Return the identifier for a workflow, which joins its slug where it keeps its own history.

        Raises:
            InvalidRequest: it would be longer than the API's bound.
            NotConfigured: so it would, and it is the site's own.
        """
        identifier = f"{self.identifier}{ISOLATION_MARK}{slug}" if isolate_history else self.identifier
        return _checked(identifier, is_given=self.is_given)


def resolve_identity(
    settings: Settings, *, user: Any = None, identifier: str | None = None, request: HttpRequest | None = None
) -> Identity:
    """Return the person that a session is for: an account, the identifier given, or a visitor.

    Raises:
        NotAuthenticated: there is nobody, the account is not active, or visitors are not welcome.
        InvalidRequest: the identifier given is out of its bounds.
        NotConfigured: USER_IDENTIFIER cannot be used.
    """
    account = user if user is not None and user.is_authenticated else None
    if not getattr(account, "is_active", True):
        raise NotAuthenticated(_("This account is not active, so there is no chat for it."))
    is_given, is_visitor = identifier is not None, False
    if identifier is None and account is not None:
        identifier = _identifier_of(settings, account, request)
    elif identifier is None and request is not None and settings.allow_anonymous:
        identifier, is_visitor = visitor_id(request), True
    if identifier is None:
        raise NotAuthenticated
    if ISOLATION_MARK in _checked(identifier, is_given=is_given):
        # It could pass for another person's identifier in a workflow that keeps its own history.
        raise _refusal(f"must not contain {ISOLATION_MARK!r}.", is_given=is_given)
    return Identity(
        user=account,
        identifier=settings.user_identifier_prefix + identifier,
        is_visitor=is_visitor,
        is_site=account is None and identifier == SITE_IDENTIFIER,
        is_given=is_given,
    )


def has_is_active() -> bool:
    """Return whether the site's accounts can be deactivated: a user model need not have the field."""
    return any(field.name == "is_active" for field in get_user_model()._meta.concrete_fields)


def load(path_or_callable: str | Callable[..., Any], key: str) -> Callable[..., Any]:
    """Return the callable that a setting names.

    Raises:
        NotConfigured: there is none at that path.
    """
    if not isinstance(path_or_callable, str):
        return path_or_callable
    try:
        function: Callable[..., Any] = import_string(path_or_callable)
    except ImportError as err:
        raise NotConfigured(f"{setting_name(key)}: {err}") from err
    return function


def call(path_or_callable: str | Callable[..., Any], key: str, *arguments: Any) -> Any:
    """Return what the site's own function, which a setting names, makes of the arguments.

    Raises:
        NotConfigured: there is none, or it failed; the log has the traceback.
    """
    try:
        return load(path_or_callable, key)(*arguments)
    except ChatKitSessionsError:
        raise
    except Exception as err:
        logger.exception("%s failed.", setting_name(key))
        raise NotConfigured(
            f"{setting_name(key)} raised {type(err).__name__}; the log has the traceback. "
            "Outside a view, the request that it is given is None."
        ) from err


def _identifier_of(settings: Settings, user: AbstractBaseUser, request: HttpRequest | None) -> str:
    if settings.user_identifier is None:
        return str(user.pk)
    identifier = call(settings.user_identifier, "USER_IDENTIFIER", user, request)
    if not isinstance(identifier, str):
        raise NotConfigured(
            f"{setting_name('USER_IDENTIFIER')} must return a string, not {type(identifier).__name__}."
        )
    return identifier


def _checked(identifier: str, *, is_given: bool) -> str:
    try:
        bounds.USER("identifier", identifier)
    except ParameterError as err:
        raise _refusal(err.reason, is_given=is_given) from None
    if identifier != identifier.strip():
        # Some databases take "a" and "a " for the same.
        raise _refusal("must not begin or end with white space.", is_given=is_given)
    return identifier


def _refusal(reason: str, *, is_given: bool) -> ChatKitSessionsError:
    """Return the error for whoever can mend it: the caller, or the site whose own identifier it is."""
    if is_given:
        return InvalidRequest({"identifier": [reason]})
    return NotConfigured(
        f"The identifier that {setting_name('USER_IDENTIFIER')} gives for an account, prefix included, "
        f"{reason}"
    )
