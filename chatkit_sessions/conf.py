"""The settings: names, defaults, environment and validation, as one frozen value built at each use."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import environ
from django.conf import settings as django_settings
from django.utils.translation import gettext as _

from . import bounds, rules
from .bounds import Check, ParameterError
from .credentials import Credentials
from .exceptions import NotConfigured
from .secret import Secret, hide

NAME = "CHATKIT_SESSIONS"
ENVIRONMENT_WORKFLOW_SLUG = "default"
ON_MAX_ACTIVE = ("reject", "cancel_oldest")


def _setting(default: Any, rule: Check, *env: str, read: type[str | int] = str, secret: bool = False) -> Any:
    metadata = {"rule": rule, "env": env, "read": Secret if secret else read}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The valid settings of this moment. Durations are seconds, sizes are megabytes."""

    api_key: str | Callable[[], str] | None = _setting(
        None,
        rules.nullable(rules.api_key_source),
        "CHATKIT_OPENAI_API_KEY",
        "OPENAI_API_KEY",
        secret=True,
    )
    base_url: str = _setting("https://api.openai.com/v1", rules.url, "OPENAI_BASE_URL")
    organization: str | None = _setting(None, rules.nullable(bounds.header_value), "OPENAI_ORG_ID")
    project: str | None = _setting(None, rules.nullable(bounds.header_value), "OPENAI_PROJECT_ID")
    credentials: Mapping[str, Mapping[str, Any]] = _setting({}, rules.credentials, secret=True)
    timeout: tuple[float, float] = _setting((3.05, 10), rules.pair(rules.seconds, rules.seconds))
    max_retries: int = _setting(2, bounds.integer(0, 10))
    deadline: float = _setting(15, rules.seconds)
    cooldown: tuple[int, float] | None = _setting(
        (5, 30), rules.nullable(rules.pair(bounds.integer(1), rules.seconds))
    )
    max_concurrent_calls: int | None = _setting(4, rules.nullable(bounds.integer(1)))
    default_workflow: str = _setting("default", rules.slug)
    workflows: Mapping[str, Mapping[str, Any]] = _setting({}, rules.any_value)
    expires_after: int | None = _setting(
        None, rules.nullable(bounds.integer(1)), "CHATKIT_EXPIRES_AFTER", read=int
    )
    max_expires_after: int = _setting(bounds.MAX_EXPIRES_AFTER_SECONDS, bounds.integer(1))
    max_requests_per_1_minute: int | None = _setting(
        None, rules.nullable(bounds.integer(1)), "CHATKIT_MAX_REQUESTS_PER_1_MINUTE", read=int
    )
    chatkit_configuration: Mapping[str, Any] = _setting({}, bounds.CHATKIT_CONFIGURATION)
    state_variables: Any = _setting({}, rules.function_or(bounds.state_variables), secret=True)
    client_state_variables: Collection[str] = _setting(
        (), rules.items(bounds.text(maximum=bounds.MAX_STATE_VARIABLE_KEY_LENGTH))
    )
    user_identifier: Any = _setting(None, rules.nullable(rules.function))
    user_identifier_prefix: str = _setting("", rules.string)
    allow_anonymous: bool = _setting(False, bounds.boolean)
    anonymous_rate: str = _setting("30/hour", rules.rate)
    max_active_sessions: int | None = _setting(None, rules.nullable(bounds.integer(1)))
    on_max_active: str = _setting("reject", bounds.choice(*ON_MAX_ACTIVE))
    max_sessions_per_hour: int | None = _setting(60, rules.nullable(bounds.integer(1)))
    reuse_margin: int = _setting(60, bounds.integer(0))
    cancel_on_logout: bool = _setting(False, bounds.boolean)
    record_client: bool = _setting(False, bounds.boolean)
    retention_days: int | None = _setting(90, rules.nullable(bounds.integer(1)))
    authentication_classes: Collection[str] | None = _setting(
        None, rules.nullable(rules.items(rules.function))
    )
    permission_classes: Collection[str] | None = _setting(None, rules.nullable(rules.items(rules.function)))
    throttle_classes: Collection[str] | None = _setting(None, rules.nullable(rules.items(rules.function)))
    chatkit_js_url: str = _setting(
        "https://cdn.platform.openai.com/deployments/chatkit/chatkit.js", rules.url, "CHATKIT_JS_URL"
    )

    def credentials_for(self, name: str) -> Credentials:
        """Return the named credentials, each value of which falls back to the site's own; "" names those.

        Raises:
            NotConfigured: CREDENTIALS has no such name.
        """
        named: Mapping[str, Any] = {}
        if name:
            if name not in self.credentials:
                raise NotConfigured(
                    _("Add the credentials %(name)r to CREDENTIALS in CHATKIT_SESSIONS.") % {"name": name}
                )
            named = self.credentials[name]
        return Credentials(
            api_key=named.get("API_KEY", self.api_key),
            base_url=named.get("BASE_URL", self.base_url).rstrip("/"),
            # Organization and project belong to a key: those of another key would be refused.
            organization=named.get("ORGANIZATION", None if "API_KEY" in named else self.organization),
            project=named.get("PROJECT", None if "API_KEY" in named else self.project),
        )


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the settings.

    Attributes:
        unknown: whether the key itself is not known.
        field: what has a value that is not valid, as it is written in messages.
    """

    message: str
    unknown: bool = False
    field: str = ""


def get_settings() -> Settings:
    """Return the settings of this moment.

    Raises:
        NotConfigured: something in CHATKIT_SESSIONS or the environment is not valid.
    """
    settings, problems = read()
    if problems:
        raise NotConfigured(problems[0].message)
    return settings


def read() -> tuple[Settings, list[Problem]]:
    """Return the settings, defaults standing in for what is not valid, and all that is wrong with them."""
    given = _given()
    if not isinstance(given, Mapping):
        return Settings(), [Problem(f"{NAME} must be a dict, not {type(given).__name__}.")]
    known = {item.name.upper(): item for item in dataclasses.fields(Settings)}
    problems = [_unknown(str(key), known) for key in given if key not in known]
    values: dict[str, Any] = {}
    for key, item in known.items():
        try:
            name, value = _look_up(key, item, given)
            if name:
                item.metadata["rule"](name, value)
                values[item.name] = value
        except ParameterError as err:
            problems.append(Problem(str(err), field=err.field))
    settings = Settings(**values)
    try:
        workflows = _workflows(settings)
        _check_together(settings, workflows, given)
        settings = dataclasses.replace(settings, workflows=workflows)
    except ParameterError as err:
        problems.append(Problem(str(err)))
        settings = dataclasses.replace(settings, workflows={})
    return settings, problems


def key_source(settings: Settings, credentials: str = "") -> str:
    """Return where the key of these credentials comes from, as it is written in messages; "" is nowhere."""
    if "API_KEY" in settings.credentials.get(credentials, {}):
        return f"{setting_name('CREDENTIALS')}[{credentials!r}].API_KEY"
    return source_of("API_KEY")


def source_of(key: str) -> str:
    """Return where the value of a key comes from, as it is written in messages; "" is nowhere."""
    (item,) = (item for item in dataclasses.fields(Settings) if item.name == key.lower())
    return _look_up(key, item, _given())[0]


def setting_name(key: str) -> str:
    """Return how a setting is written in messages."""
    return f'{NAME}["{key}"]'


def _given() -> Any:
    """Return CHATKIT_SESSIONS with its keys hidden: it stands in the frames of whatever fails below."""
    given = hide(getattr(django_settings, NAME, {}), "API_KEY")
    if isinstance(given, Mapping) and isinstance(named := given.get("CREDENTIALS"), Mapping):
        return {**given, "CREDENTIALS": {name: hide(entry, "API_KEY") for name, entry in named.items()}}
    return given


def _unknown(key: str, known: Collection[str]) -> Problem:
    close = difflib.get_close_matches(key.upper(), known, n=1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
    return Problem(f"{setting_name(key)} is unknown. {hint}", unknown=True)


def _look_up(key: str, item: dataclasses.Field[Any], given: Mapping[str, Any]) -> tuple[str, Any]:
    """Return where a value was found and the value; nowhere is ""."""
    if key in given:
        return setting_name(key), given[key]
    for variable in item.metadata["env"]:
        value = _environment(variable)
        if not value:
            continue
        try:
            return variable, item.metadata["read"](value)
        except ValueError:
            raise ParameterError(
                variable, "must be an integer, in the environment as in the settings."
            ) from None
    return "", None


def _environment(variable: str) -> str:
    """Return an environment variable; "" where it is not set."""
    try:
        value: str = environ.Env().str(variable, default="")
    except RecursionError:  # "$NAME" stands for another variable, and here in the end for itself
        raise ParameterError(variable, "refers to itself.") from None
    return value


def _workflows(settings: Settings) -> dict[str, Mapping[str, Any]]:
    """Return the workflows with their own field names, the environment's as slug "default"."""
    rules.workflows(settings.max_expires_after)(setting_name("WORKFLOWS"), settings.workflows)
    workflows: dict[str, Mapping[str, Any]] = {}
    for slug, fields in settings.workflows.items():
        own = {("workflow_id" if name == "id" else name): value for name, value in fields.items()}
        workflows[slug] = own
    default = workflows.get(ENVIRONMENT_WORKFLOW_SLUG, {})
    workflow_id = _environment("CHATKIT_WORKFLOW_ID")
    if workflow_id and "workflow_id" not in default:
        version = _environment("CHATKIT_WORKFLOW_VERSION") or None
        bounds.text(maximum=255)("CHATKIT_WORKFLOW_ID", workflow_id)
        rules.nullable(bounds.version)("CHATKIT_WORKFLOW_VERSION", version)
        workflows[ENVIRONMENT_WORKFLOW_SLUG] = {"workflow_id": workflow_id, "version": version, **default}
    return workflows


def _check_together(
    settings: Settings, workflows: Mapping[str, Mapping[str, Any]], given: Mapping[str, Any]
) -> None:
    name = setting_name("EXPIRES_AFTER") if "EXPIRES_AFTER" in given else "CHATKIT_EXPIRES_AFTER"
    rules.nullable(bounds.integer(1, settings.max_expires_after))(name, settings.expires_after)
    for slug, fields in workflows.items():
        name = fields.get("credentials", "")
        if name and name not in settings.credentials:
            raise ParameterError(
                f"{setting_name('WORKFLOWS')}[{slug!r}].credentials",
                f"names {name!r}, which CREDENTIALS lacks.",
            )
