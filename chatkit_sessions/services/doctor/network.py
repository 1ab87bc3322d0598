"""Why there was no connection: the name, the way, the proxy or the certificate."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urlsplit

import requests
from django.utils.translation import gettext as _
from requests.utils import get_environ_proxies, select_proxy

from chatkit_sessions.client.reasons import NOT_IN_TIME, causes, reason
from chatkit_sessions.secret import redact

from .findings import Finding, error, info

# OpenSSL's numbers (X509_V_ERR_...) of what can be wrong with a certificate.
NOT_YET_VALID, EXPIRED = 9, 10
WRONG_HOST = (62, 64)  # a name, an address
# The HTTP status, as it stands in the error of whoever asked the proxy for a way through.
NAME_WANTED = " 407 "


def about_proxy(base_url: str) -> list[Finding]:
    """Name the proxy on the way to the API, where there is one."""
    proxy = proxy_for(base_url)
    if not proxy:
        return []
    message = _("Requests to %(host)s go through the proxy %(proxy)s, which the environment names.")
    return [info("proxy", message % {"host": host_of(base_url), "proxy": proxy})]


def proxy_for(base_url: str) -> str:
    """Return the proxy's address without the name and password that may stand in it; "" is none."""
    proxy = select_proxy(base_url, get_environ_proxies(base_url))
    if not proxy:
        return ""
    scheme, _separator, rest = proxy.rpartition("://")
    return f"{scheme or 'http'}://{rest.rpartition('@')[2].rstrip('/')}"


def host_of(base_url: str) -> str:
    """Return host and port of an address."""
    return urlsplit(base_url).netloc.rpartition("@")[2]


def no_connection(failure: BaseException, base_url: str) -> Finding:
    """Say why there was no connection to the API."""
    found = list(causes(failure))
    host = host_of(base_url)
    if any(isinstance(cause, requests.exceptions.ProxyError) for cause in found):
        return _proxy_failed(failure, base_url)
    if any(isinstance(cause, requests.exceptions.SSLError | ssl.SSLError) for cause in found):
        return _tls_failed(failure, host)
    if any("CA certificate bundle" in str(cause) for cause in found):
        return error(
            "tls",
            _("The file of trusted certificates cannot be read."),
            _("Correct REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE in the environment, or unset it."),
        )
    if any(isinstance(cause, socket.gaierror) for cause in found):
        return error(
            "network",
            _("The name %(host)s cannot be resolved.") % {"host": host},
            _("Check BASE_URL for a typing error, this machine's DNS, and whether a proxy has to be named."),
        )
    if any(isinstance(cause, ValueError) for cause in found):
        return error(
            "network",
            _("The address of the API cannot be used: %(host)s.") % {"host": host},
            _("Correct BASE_URL in CHATKIT_SESSIONS, or the proxy in the environment."),
        )
    return error(
        "network",
        _("There is no connection to %(host)s: %(reason)s.") % {"host": host, "reason": _in_words(failure)},
        _("Check BASE_URL, the network and its firewall, and whether a proxy has to be named (HTTPS_PROXY)."),
    )


def _proxy_failed(failure: BaseException, base_url: str) -> Finding:
    message = _("The proxy %(proxy)s does not let requests through: %(reason)s.")
    words = {"proxy": proxy_for(base_url), "reason": _in_words(failure), "host": host_of(base_url)}
    cure = _(
        "Check that it runs and what it asks for (HTTPS_PROXY and HTTP_PROXY in the environment), "
        "or name %(host)s in NO_PROXY."
    )
    if NAME_WANTED in words["reason"]:
        cure = _(
            "It asks for a name and a password: put them into HTTPS_PROXY in the environment "
            "(http://name:password@host:port), or name %(host)s in NO_PROXY."
        )
    return error("proxy", message % words, cure % words)


def _tls_failed(failure: BaseException, host: str) -> Finding:
    code = next((c.verify_code for c in causes(failure) if isinstance(c, ssl.SSLCertVerificationError)), None)
    if code is None:
        return error(
            "tls",
            _("No encrypted connection to %(host)s could be made: %(reason)s.")
            % {"host": host, "reason": _in_words(failure)},
            _("Check that the server in BASE_URL speaks TLS (else use http://), and any proxy in between."),
        )
    if code in (NOT_YET_VALID, EXPIRED):
        message = _("The certificate of %(host)s has expired.")
        if code == NOT_YET_VALID:
            message = _("The certificate of %(host)s is not yet valid.")
        cure = _("Check this machine's clock (NTP) first; else whoever runs %(host)s has to renew it.")
        return error("tls", message % {"host": host}, cure % {"host": host})
    if code in WRONG_HOST:
        message = _("The certificate that answers for %(host)s is another host's.")
        return error("tls", message % {"host": host}, _("Check BASE_URL, the DNS, and any proxy in between."))
    return error(
        "tls",
        _("The certificate of %(host)s is not trusted: %(reason)s.")
        % {"host": host, "reason": _in_words(failure)},
        _(
            "Where a proxy breaks TLS open, set REQUESTS_CA_BUNDLE in the environment to a file with its "
            "certificate; else update the certificates (pip install --upgrade certifi)."
        ),
    )


def _in_words(failure: BaseException) -> str:
    # What signs in to a proxy may stand in an address.
    said = redact(reason(failure))
    return _("no answer in time") if said == NOT_IN_TIME else said
