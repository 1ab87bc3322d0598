"""What the doctor says where there is no connection."""

import socket
import ssl
from typing import Any

import pytest
import requests
from requests.exceptions import ConnectTimeout, InvalidURL, ProxyError, SSLError
from urllib3 import exceptions as urllib3_errors

from chatkit_sessions.services.doctor import Finding, Level, examine
from chatkit_sessions.services.doctor.network import no_connection, proxy_for
from chatkit_sessions.testing import standin as pointed_at

from .test_doctor import failure, found

pytestmark = pytest.mark.django_db

NOBODY = "http://127.0.0.1:9/v1"
PROXY = "http://ada:proxy-password@127.0.0.1:9/"


@pytest.fixture(autouse=True)
def _no_exception_from_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


def failure_at(base_url: str, **settings: Any) -> Finding:
    with pointed_at(BASE_URL=base_url, MAX_RETRIES=0, **settings):
        return failure(examine())


def tls_error(lowest: ssl.SSLError) -> SSLError:
    """Return an error of TLS as requests raises it, with its own one far below."""
    pool = urllib3_errors.HTTPError()
    return SSLError(urllib3_errors.MaxRetryError(pool, "/v1", urllib3_errors.SSLError(lowest)))  # type: ignore[arg-type]  # the pool is for the message alone


def certificate_error(code: int, reason: str) -> SSLError:
    lowest = ssl.SSLCertVerificationError(1, f"certificate verify failed: {reason} (_ssl.c:1000)")
    lowest.verify_code, lowest.verify_message = code, reason
    return tls_error(lowest)


def test_a_refused_connection_is_told() -> None:
    assert failure_at(NOBODY) == Finding(
        "network",
        Level.ERROR,
        "There is no connection to 127.0.0.1:9: Connection refused.",
        "Check BASE_URL, the network and its firewall, and whether a proxy has to be named (HTTPS_PROXY).",
    )


def test_a_name_that_cannot_be_resolved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert failure_at("https://api.example.com/v1") == Finding(
        "network",
        Level.ERROR,
        "The name api.example.com cannot be resolved.",
        "Check BASE_URL for a typing error, this machine's DNS, and whether a proxy has to be named.",
    )


def test_a_connection_that_is_not_encrypted_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise tls_error(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000)"))

    monkeypatch.setattr(requests.Session, "request", fail)
    assert failure_at("https://api.example.com/v1") == Finding(
        "tls",
        Level.ERROR,
        "No encrypted connection to api.example.com could be made: "
        "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1000).",
        "Check that the server in BASE_URL speaks TLS (else use http://), and any proxy in between.",
    )


@pytest.mark.parametrize(
    ("code", "message", "cure"),
    [
        (
            10,
            "The certificate of api.example.com has expired.",
            "Check this machine's clock (NTP) first; else whoever runs api.example.com has to renew it.",
        ),
        (
            9,
            "The certificate of api.example.com is not yet valid.",
            "Check this machine's clock (NTP) first; else whoever runs api.example.com has to renew it.",
        ),
        (
            62,
            "The certificate that answers for api.example.com is another host's.",
            "Check BASE_URL, the DNS, and any proxy in between.",
        ),
        (
            64,
            "The certificate that answers for api.example.com is another host's.",
            "Check BASE_URL, the DNS, and any proxy in between.",
        ),
        (
            19,
            "The certificate of api.example.com is not trusted: self-signed certificate in chain.",
            "Where a proxy breaks TLS open, set REQUESTS_CA_BUNDLE in the environment to a file with its "
            "certificate; else update the certificates (pip install --upgrade certifi).",
        ),
    ],
)
def test_a_certificate_that_does_not_do_is_told(
    monkeypatch: pytest.MonkeyPatch, code: int, message: str, cure: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise certificate_error(code, "self-signed certificate in chain")

    monkeypatch.setattr(requests.Session, "request", fail)
    assert failure_at("https://api.example.com/v1") == Finding("tls", Level.ERROR, message, cure)


def test_a_file_of_certificates_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/bundle.pem")
    assert failure_at("https://127.0.0.1:9/v1") == Finding(
        "tls",
        Level.ERROR,
        "The file of trusted certificates cannot be read.",
        "Correct REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE in the environment, or unset it.",
    )


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", "ALL_PROXY"])
def test_a_proxy_that_fails_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, PROXY)
    assert failure_at("https://api.example.com/v1") == Finding(
        "proxy",
        Level.ERROR,
        "The proxy http://127.0.0.1:9 does not let requests through: Connection refused.",
        "Check that it runs and what it asks for (HTTPS_PROXY and HTTP_PROXY in the environment), "
        "or name api.example.com in NO_PROXY.",
    )


def test_a_proxy_that_works_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with pointed_at() as api:
        # A proxy for plain http is asked with the whole address; the stand-in takes it for an unknown path.
        monkeypatch.setenv(
            "http_proxy", api.base_url.replace("//", "//ada:proxy-password@").removesuffix("/v1")
        )
        with pointed_at(BASE_URL="http://api.example.com/v1", MAX_RETRIES=0):
            diagnosis = examine()
        assert len(api.requests) == 1
    address = api.base_url if api._server else f"http://127.0.0.1:{api._address[1]}"
    assert found(diagnosis, "proxy") == Finding(
        "proxy",
        Level.INFO,
        f"Requests to api.example.com go through the proxy {address}, which the environment names.",
    )


@pytest.mark.parametrize(
    ("proxy", "shown"),
    [
        ("http://proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("http://ada:p@ss@proxy.example.com:3128/", "http://proxy.example.com:3128"),
        ("ada:pass@proxy.example.com:3128", "http://proxy.example.com:3128"),
        ("socks5://proxy.example.com", "socks5://proxy.example.com"),
    ],
)
def test_of_a_proxy_only_its_address_is_shown(
    monkeypatch: pytest.MonkeyPatch, proxy: str, shown: str
) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    assert proxy_for("https://api.example.com/v1") == shown


def test_a_host_that_needs_no_proxy_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    monkeypatch.setenv("no_proxy", "api.example.com")
    assert proxy_for("https://api.example.com/v1") == ""


def test_of_the_apis_address_no_password_is_shown() -> None:
    error = no_connection(InvalidURL("bad"), "http://ada:secret-password@127.0.0.1:9/v1")
    assert error.message == "The address of the API cannot be used: 127.0.0.1:9."
    assert "secret-password" not in str(failure_at("http://ada:secret-password@127.0.0.1:9/v1"))


@pytest.mark.parametrize(
    ("raised", "check", "message"),
    [
        (ConnectTimeout("slow"), "network", "There is no connection to api.example.com: no answer in time."),
        (InvalidURL("bad"), "network", "The address of the API cannot be used: api.example.com."),
        (
            requests.ConnectionError("it broke"),
            "network",
            "There is no connection to api.example.com: it broke.",
        ),
        (
            ProxyError("Cannot connect", OSError("Tunnel connection failed: 407 Authentication Required")),
            "proxy",
            "The proxy http://127.0.0.1:9 does not let requests through: "
            "Tunnel connection failed: 407 Authentication Required.",
        ),
    ],
)
def test_what_else_can_happen_on_the_way_is_told(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, check: str, message: str
) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    error = no_connection(raised, "https://api.example.com/v1")
    assert (error.check, error.message) == (check, message)


def test_a_proxy_that_wants_to_know_who_asks_has_a_cure_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", PROXY)
    raised = ProxyError("Cannot connect", OSError("Tunnel connection failed: 407 Authentication Required"))
    assert no_connection(raised, "https://api.example.com/v1").cure == (
        "It asks for a name and a password: put them into HTTPS_PROXY in the environment "
        "(http://name:password@host:port), or name api.example.com in NO_PROXY."
    )


def test_an_address_that_cannot_be_used_has_a_cure() -> None:
    assert no_connection(InvalidURL("bad"), "https://api.example.com/v1").cure == (
        "Correct BASE_URL in CHATKIT_SESSIONS, or the proxy in the environment."
    )


def test_what_signs_in_to_a_proxy_is_not_told() -> None:
    failure = requests.ConnectionError("cannot reach http://ada:secret-password@proxy.example.com")
    message = no_connection(failure, "https://api.example.com/v1").message
    assert message.endswith("cannot reach http://[removed]@proxy.example.com.")


def test_causes_that_name_each_other_come_to_an_end() -> None:
    first, second = requests.ConnectionError("a"), ConnectionResetError(104, "Connection reset by peer")
    first.__cause__, second.__context__ = second, first
    message = no_connection(first, "https://api.example.com/v1").message
    assert message == "There is no connection to api.example.com: Connection reset by peer."
