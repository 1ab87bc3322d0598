"""What is asked for, once it is allowed: who, which workflow, under which policy, with which parameters."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from django.db import Error as StorageError
from django.http import HttpRequest

from chatkit_sessions import bounds, rules
from chatkit_sessions.bounds import ParameterError
from chatkit_sessions.conf import Settings, get_settings, setting_name
from chatkit_sessions.digests import digest
from chatkit_sessions.exceptions import Blocked, InvalidRequest, NotConfigured, StorageUnavailable
from chatkit_sessions.identity import Identity, call, resolve_identity
from chatkit_sessions.issuers.openai import OpenAIIssuer
from chatkit_sessions.layers import Layer, Resolved, describe
from chatkit_sessions.policy import SessionPolicy, from_configuration, resolve_policy
from chatkit_sessions.visitors import address_digest
from chatkit_sessions.workflows import WorkflowConfig, find_workflow

logger = logging.getLogger("chatkit_sessions")


@dataclass(frozen=True, kw_only=True)
class Order:
    """An allowed request.

    Attributes:
        identifier: what the API will know the person by.
        address_digest: whose rate it counts against, for a visitor; "" for everyone else.
        parameters: those of the API's call; they may hold private state variables.
    """

    settings: Settings = field(repr=False)
    identity: Identity
    identifier: str
    policy: SessionPolicy
    issuer: OpenAIIssuer
    parameters: dict[str, Any] = field(repr=False)
    request: HttpRequest | None
    address_digest: str


class OrderArguments(TypedDict, total=False):
    """The arguments of ``issue_session``, which describes them."""

    user: Any
    identifier: str | None
    request: HttpRequest | None
    workflow: str | None
    state_variables: Mapping[str, Any] | None
    current_client_secret: str | None
    expires_after: int | None
    max_requests_per_1_minute: int | None
    chatkit_configuration: Mapping[str, Any] | None
    client_state_variables: Mapping[str, Any] | None


def place_order(**arguments: Unpack[OrderArguments]) -> Order:
    """Check everything that can be checked before a row is written.

    Raises:
        SessionRefused: the request is not allowed or not valid.
        NotConfigured: the site lacks a key, a valid setting or its default workflow.
        StorageUnavailable: the database failed.
    """
    try:
        return _place_order(arguments)
    except StorageError as err:
        logger.exception("The policy of a session could not be looked up; the API was not asked.")
        raise StorageUnavailable from err


def _place_order(arguments: OrderArguments) -> Order:
    settings = get_settings()
    user, request = arguments.get("user"), arguments.get("request")
    identity = resolve_identity(settings, user=user, identifier=arguments.get("identifier"), request=request)
    values = _policy_values(settings, arguments)
    config = find_workflow(settings, arguments.get("workflow"), identity)
    policy = resolve_policy(settings, config, identity, values)
    if policy.blocked_by is not None:
        raise Blocked
    _check_policy(settings, policy)
    issuer = OpenAIIssuer(settings, policy["credentials"])
    known_as = identity.identifier_for(config.slug, isolate_history=policy["isolate_history"])
    variables, recorded = _state_variables(settings, config, arguments)
    return Order(
        settings=settings,
        identity=identity,
        identifier=known_as,
        policy=policy.with_values(recorded),
        issuer=issuer,
        parameters=issuer.prepare(identifier=known_as, policy=policy, state_variables=variables),
        request=request,
        address_digest=address_digest(request) if request is not None and identity.is_visitor else "",
    )


def _policy_values(settings: Settings, arguments: OrderArguments) -> dict[str, Any]:
    """Return the policy's values that the call itself sets."""
    expires_after = arguments.get("expires_after")
    max_requests_per_1_minute = arguments.get("max_requests_per_1_minute")
    chatkit_configuration = arguments.get("chatkit_configuration")
    values: dict[str, Any] = {}
    if expires_after is not None:
        _check(bounds.integer(1, settings.max_expires_after), "expires_after", expires_after)
        values["expires_after"] = expires_after
    if max_requests_per_1_minute is not None:
        _check(bounds.integer(1), "max_requests_per_1_minute", max_requests_per_1_minute)
        values["max_requests_per_1_minute"] = max_requests_per_1_minute
    if chatkit_configuration is not None:
        _check(bounds.CHATKIT_CONFIGURATION, "chatkit_configuration", chatkit_configuration)
        values |= from_configuration(chatkit_configuration)
    return values


def _check_policy(settings: Settings, policy: SessionPolicy) -> None:
    """Check what came from the database: not everything was saved by a form, and settings change."""
    known = rules.workflow_rules(settings.max_expires_after)
    for name, item in policy.values.items():
        if item.layer is not Layer.DEFAULT:
            _check_own(known[name], name, item.value, f"{policy.workflow.slug}, {describe(item.as_json())}")


def _state_variables(
    settings: Settings, workflow: WorkflowConfig, arguments: OrderArguments
) -> tuple[dict[str, Any], dict[str, Resolved]]:
    """Return the merged state variables, the browser's own lowest, and what the audit keeps of them."""
    argument = arguments.get("state_variables")
    if argument is not None:
        _check(bounds.state_variables, "state_variables", argument)
    own = _own_state_variables(settings, workflow, arguments)
    merged: dict[str, Any] = {}
    layers: dict[str, str] = {}
    for layer, variables in (
        (Layer.BROWSER, _client_state_variables(settings, arguments)),
        *own,
        (Layer.ARGUMENT, argument or {}),
    ):
        merged.update(variables)
        layers.update(dict.fromkeys(variables, layer.value))
    _check(bounds.state_variables, "state_variables", merged)
    if not merged:
        return merged, {}
    # Their values may be private and large: the audit keeps the names, and a digest to tell a change by.
    record = {"digest": digest(json.dumps(merged, sort_keys=True)), "names": layers}
    return merged, {
        "state_variables": Resolved(record, max(map(Layer, layers.values()), key=list(Layer).index))
    }


def _client_state_variables(settings: Settings, arguments: OrderArguments) -> Mapping[str, Any]:
    variables = arguments.get("client_state_variables") or {}
    _check(bounds.state_variables, "state_variables", variables)
    if foreign := sorted(set(variables) - set(settings.client_state_variables)):
        raise InvalidRequest(
            {"state_variables": [f"must not have {foreign[0]!r}: CLIENT_STATE_VARIABLES does not list it."]}
        )
    return variables


def _own_state_variables(
    settings: Settings, workflow: WorkflowConfig, arguments: OrderArguments
) -> list[tuple[Layer, Mapping[str, Any]]]:
    """Return the site's own state variables, valid each and together."""
    name, variables = setting_name("STATE_VARIABLES"), settings.state_variables
    if not isinstance(variables, Mapping):
        user, request = arguments.get("user"), arguments.get("request")
        variables = call(variables, "STATE_VARIABLES", user, request, workflow.slug)
        _check_own(bounds.state_variables, name, variables)
    merged = dict(variables)
    for _layer, more in workflow.state_variables:
        _check_own(bounds.state_variables, "state_variables", more, workflow.slug)
        merged.update(more)
    _check_own(bounds.state_variables, "state_variables", merged, f"{workflow.slug}, {name} included")
    return [(Layer.SETTING, variables), *workflow.state_variables]


def _check_own(check: bounds.Check, field: str, value: Any, where: str = "") -> None:
    """Check a value that is the site's own: what is wrong with it is for the operator."""
    try:
        check(field, value)
    except ParameterError as err:
        raise NotConfigured(f"{where}: {err}" if where else str(err)) from None


def _check(check: bounds.Check, field: str, value: Any) -> None:
    try:
        check(field, value)
    except ParameterError as err:
        name, _, rest = err.field.partition(".")
        raise InvalidRequest({name: [f"{rest} {err.reason}".strip()]}) from None
