"""The attempt: find the workflow, create a session, cancel it, and compare what came with what was asked."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from django.db import Error as StorageError
from django.utils import timezone
from django.utils.translation import gettext as _

from chatkit_sessions.bounds import ParameterError, version
from chatkit_sessions.client import APIError
from chatkit_sessions.conf import Settings
from chatkit_sessions.exceptions import ChatKitSessionsError, StorageUnavailable
from chatkit_sessions.identity import SITE_IDENTIFIER, resolve_identity
from chatkit_sessions.models import ChatSession, Status
from chatkit_sessions.services.cancel import cancel_session
from chatkit_sessions.services.gate import regardless_of_cooldown
from chatkit_sessions.services.issue import issue_session
from chatkit_sessions.services.withdrawal import insist
from chatkit_sessions.workflows import WorkflowConfig, named_workflows

from .failures import explain
from .findings import Finding, Level, Outcome, error, info, ok, warning

MAX_SKEW = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How the attempt ended."""

    findings: list[Finding]
    outcome: Outcome = Outcome.UNTRIED
    session: ChatSession | None = None


def find_workflow(settings: Settings, name: str | None) -> tuple[WorkflowConfig | None, Finding]:
    """Return the workflow where the doctor may start it, and what was found of it.

    Raises:
        StorageError: the database failed.
    """
    wanted = settings.default_workflow if name is None else name
    identity = resolve_identity(settings, identifier=SITE_IDENTIFIER)
    found = named_workflows(settings, wanted, identity)
    cure = _("Add it to WORKFLOWS in CHATKIT_SESSIONS or in the admin, or name another with --workflow.")
    if not found:
        if name is None:
            cure = _(
                "Set CHATKIT_WORKFLOW_ID in the environment, or add it to WORKFLOWS in CHATKIT_SESSIONS or "
                "in the admin."
            )
        return None, error("workflow", _("There is no workflow %(slug)r.") % {"slug": wanted}, cure)
    config = next((workflow for workflow in found if workflow.is_open_to(identity)), found[0])
    if closed := config.why_closed_to(identity):
        message = _("The workflow %(slug)r cannot be used: %(reason)s.")
        cure = _("Change that in the admin or in WORKFLOWS in CHATKIT_SESSIONS.")
        return None, error("workflow", message % {"slug": config.slug, "reason": closed}, cure)
    return _check_version(config)


def _check_version(config: WorkflowConfig) -> tuple[WorkflowConfig | None, Finding]:
    named = config.get("version")
    try:
        if named is not None:
            version("version", named)
    except ParameterError as err:
        message = _("The workflow %(slug)r names an impossible version: %(error)s")
        cure = _("Clear its version in the admin, or name one of its deployments.")
        return None, error("version", message % {"slug": config.slug, "error": err}, cure)
    found = _("%(slug)s (%(id)s), its latest deployment.")
    if named is not None:
        found = _("%(slug)s (%(id)s), version %(version)s.")
    words = {"slug": config.slug, "id": config.get("workflow_id"), "version": named}
    return config, ok("workflow", found % words)


def attempt(settings: Settings, config: WorkflowConfig) -> Attempt:
    """Create a session and cancel it at once; it is real and has its row, and waits for no cool-down."""
    try:
        with regardless_of_cooldown():
            session = issue_session(identifier=SITE_IDENTIFIER, workflow=config.slug).session
    except ChatKitSessionsError as failure:
        found = explain(failure, settings, config.get("credentials", ""))
        return Attempt(findings=[found], outcome=Outcome.REFUSED, session=_row(failure.reference))
    ended = _end(session, settings)
    failed = any(finding.level is Level.ERROR for finding in ended)
    outcome = Outcome.CREATED if failed else Outcome.CANCELLED
    return Attempt(findings=[*ended, *_life(session), *_rate(session)], outcome=outcome, session=session)


def _row(reference: str | None) -> ChatSession | None:
    if reference is None:
        return None
    try:
        return ChatSession.objects.filter(reference=reference).first()
    except StorageError:  # what failed before may go on failing
        return None


def _end(session: ChatSession, settings: Settings) -> list[Finding]:
    """Cancel the session, and say whether that was done, here and at the API."""
    words = {"session": session, "ms": session.latency_ms}
    try:
        cancel_session(session, reason="chatkit_doctor")
        if session.status != Status.CANCELLED:
            message = _("The session %(session)s was created, but is over by this machine's clock already.")
            return [error("session", message % words, _("Set the clock by NTP."))]
        if session.cancel_requested_at is not None:  # why is in the log alone: ask once more
            insist(session)
    except StorageUnavailable:
        message = _("The session %(session)s was created, but its end could not be recorded.")
        return [error("storage", message % words, _("Check the database; the session ends by itself."))]
    except (APIError, ParameterError, ChatKitSessionsError) as failure:
        message = _("The session %(session)s was created, but the API could not be told of its end.")
        by_itself = _("It ends by itself, and chatkit_reconcile tries to tell the API until then.")
        why = explain(failure, settings, session.policy["credentials"]["value"])
        return [info("session", message % words, by_itself), why]
    if not session.upstream_id:
        message = _("The session %(session)s was created, but the API gave no id to cancel it by.")
        return [warning("session", message % words, _("Check that BASE_URL is the API's address."))]
    return [ok("session", _("%(session)s was created in %(ms)d ms, and cancelled.") % words)]


def _life(session: ChatSession) -> list[Finding]:
    """Compare the session's end with that expected: the API made it between the sending and the answer."""
    lifetime = timedelta(seconds=session.policy["expires_after"]["value"])
    created, answered = session.expires_at - lifetime, session.issued_at or timezone.now()
    sent = answered - timedelta(milliseconds=session.latency_ms or 0)
    if created - answered > MAX_SKEW:
        skew = created - answered
        message = _(
            "The session ends %(skew)d seconds later than expected: either this machine's clock is behind, "
            "or the API gave it another lifetime than %(lifetime)d seconds."
        )
    elif sent - created > MAX_SKEW:
        skew = sent - created
        message = _(
            "The session ends %(skew)d seconds earlier than expected: either this machine's clock is ahead, "
            "or the API gave it another lifetime than %(lifetime)d seconds."
        )
    else:
        return []
    words = {"skew": round(skew.total_seconds()), "lifetime": lifetime.total_seconds()}
    cure = _(
        "Compare this machine's clock first (NTP): a wrong one ends sessions too early or too late here."
    )
    return [warning("clock", message % words, cure)]


def _rate(session: ChatSession) -> list[Finding]:
    """Compare the requests a minute that were granted with those asked for."""
    asked, granted = session.policy["max_requests_per_1_minute"]["value"], session.max_requests_per_1_minute
    if asked is None or granted is None or granted >= asked:
        return []
    message = _("The API grants %(granted)d requests a minute, not the %(asked)d asked for.")
    return [info("rate", message % {"granted": granted, "asked": asked})]
