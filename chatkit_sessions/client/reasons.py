"""Why there was no connection, in the system's own words: those of the libraries above bury them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import requests
from urllib3.util.ssl_match_hostname import CertificateError

NOT_IN_TIME = "no answer in time"


def causes(failure: BaseException) -> Iterator[BaseException]:
    """Yield the failure and all that lies beneath: requests and urllib3 keep it in different places."""
    seen: set[int] = set()
    waiting: list[object] = [failure]
    while waiting:
        found = waiting.pop(0)
        if isinstance(found, BaseException) and id(found) not in seen:
            seen.add(id(found))
            yield found
            waiting += [*found.args, getattr(found, "reason", None), found.__cause__, found.__context__]


def reason(failure: BaseException) -> str:
    """Return what went wrong, without the names and addresses that the libraries put around it."""
    for cause in causes(failure):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        if isinstance(cause, CertificateError):
            return str(cause)
        if isinstance(cause, requests.Timeout):
            return NOT_IN_TIME
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException):
            return str(cause.strerror or cause).strip(".")
    return str(failure)


def is_certificate_refused(failure: BaseException) -> bool:
    """Return whether the other side could not show that it is who it should be."""
    # The second one is that of urllib3 before version 2, which compares the names itself.
    refusals = ssl.SSLCertVerificationError | CertificateError
    return any(isinstance(cause, refusals) for cause in causes(failure))
