"""The whole examination: look at the site, try the real thing, and look at what the browser will meet."""

from __future__ import annotations

from django.db import Error as StorageError
from django.utils.translation import gettext as _

from chatkit_sessions import conf
from chatkit_sessions.conf import Settings
from chatkit_sessions.workflows import WorkflowConfig

from . import page, site
from .attempt import Attempt, attempt, find_workflow
from .findings import Diagnosis, Finding, Level, info
from .key import about_key
from .network import about_proxy


def examine(workflow: str | None = None) -> Diagnosis:
    """Create a session for ``chatkit-doctor``, cancel it at once, and say what is wrong with the site.

    Nothing is sent where it is known beforehand that it cannot work.

    Args:
        workflow: slug or configured workflow id; by default DEFAULT_WORKFLOW.
    """
    settings, problems = conf.read()
    findings = [*site.about_settings(), site.about_database()]
    tried = Attempt(findings=[])
    if not problems:
        config, more = _prepare(settings, workflow, has_database=findings[-1].level is Level.OK)
        findings += more
        if config is not None and not _has_error(findings):
            tried = attempt(settings, config)
    if not tried.findings:
        message = _("No session was tried: first put right what is wrong above.")
        tried = Attempt(findings=[info("session", message)])
    # What looked well until it was tried is said once.
    failed = {finding.check for finding in tried.findings}
    findings = [finding for finding in findings if finding.check not in failed]
    findings += [*tried.findings, site.about_cache(), *page.about_headers(settings), page.about_allow_list()]
    return Diagnosis(findings=tuple(findings), outcome=tried.outcome, session=tried.session)


def _prepare(
    settings: Settings, name: str | None, *, has_database: bool
) -> tuple[WorkflowConfig | None, list[Finding]]:
    """Return the workflow, and what is found of it, its key and the way to the API."""
    config, findings = None, []
    if has_database:
        try:
            config, found = find_workflow(settings, name)
        except StorageError as failure:
            found = site.storage_failed(failure)
        findings.append(found)
    credentials = "" if config is None else config.get("credentials", "")
    findings.append(about_key(settings, credentials))
    if findings[-1].level is Level.OK:
        findings += about_proxy(settings.credentials_for(credentials).base_url)
    return config, findings


def _has_error(findings: list[Finding]) -> bool:
    return any(finding.level is Level.ERROR for finding in findings)
