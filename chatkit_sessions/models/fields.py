"""Fields that the models share."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Q
from django.utils.deconstruct import deconstructible
from django.utils.translation import gettext_lazy as _

from chatkit_sessions import bounds, rules
from chatkit_sessions.bounds import Check, ParameterError
from chatkit_sessions.conf import Settings


class ExactCharField(models.CharField):  # type: ignore[type-arg]  # generic in the stubs only
    """Text that is compared character by character on every database.

    MySQL's and MariaDB's default collations take ``Bob`` and ``bob`` for the same, which two users'
    identifiers must never be.
    """

    def db_parameters(self, connection: BaseDatabaseWrapper) -> Any:
        """Add the binary collation where the database's own is not exact."""
        parameters = super().db_parameters(connection)
        if connection.vendor == "mysql":
            parameters["collation"] = "utf8mb4_bin"
        return parameters


@deconstructible
class Bound:
    """Validate a field with one of the checks that settings and services use, so that all say the same."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, value: Any) -> None:
        try:
            _CHECKS[self.name]("", value)
        except ParameterError as err:
            # A key is told as it is spelled; a sentence without one begins with a capital letter.
            key = err.field.lstrip(".")
            message = f"{key} {err.reason}" if key else err.reason[:1].upper() + err.reason[1:]
            raise ValidationError(message, code=self.name) from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bound) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


_CHECKS: dict[str, Check] = {
    "version": bounds.version,
    "state_variables": bounds.state_variables,
    "ui_options": rules.ui_options,
}


class CountField(models.PositiveIntegerField):  # type: ignore[type-arg]  # generic in the stubs only
    """A whole number from 1 on; Django's own form field would say that 0 is allowed."""

    def formfield(self, **kwargs: Any) -> Any:
        """Have the bound in the form."""
        return super().formfield(**{"min_value": 1, **kwargs})


def bounded(label: Any, help_text: Any, *, maximum: int | None = None) -> CountField:
    """Return an optional integer field from 1 to ``maximum``, or to what every database can hold."""
    largest = bounds.MAX_INTEGER if maximum is None else maximum
    validators = [MinValueValidator(1), MaxValueValidator(largest)]
    return CountField(label, null=True, blank=True, validators=validators, help_text=help_text)


def at_least_one(prefix: str, *fields: str) -> list[models.CheckConstraint]:
    """Return the constraints that hold ``bounded`` fields to their lower bound in the database too."""
    return [
        models.CheckConstraint(
            condition=Q(**{f"{name}__isnull": True}) | Q(**{f"{name}__gte": 1}),
            name=f"{prefix}_{name}"[:60],
            violation_error_message=_("Must be at least 1, or blank."),
        )
        for name in fields
    ]


def lifetime_errors(seconds: int | None, settings: Settings) -> dict[str, Any]:
    """Return the error of a lifetime over MAX_EXPIRES_AFTER, by field."""
    if seconds is None or seconds <= settings.max_expires_after:
        return {}
    message = _(
        "Must be from 1 to %(maximum)d seconds, not %(value)d. "
        "The bound is MAX_EXPIRES_AFTER in the settings."
    )
    return {"expires_after": message % {"maximum": settings.max_expires_after, "value": seconds}}


def flag(label: Any, help_text: Any = "") -> models.BooleanField:  # type: ignore[type-arg]  # generic in the stubs only
    """Return an optional boolean field."""
    return models.BooleanField(label, null=True, blank=True, help_text=help_text)
