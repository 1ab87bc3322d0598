"""Every fault of the API, and what becomes of it: the answer to the browser and the audit row."""

import gzip
import json
import socket
import struct
import threading
from dataclasses import dataclass
from typing import Any

from chatkit_sessions.standin import Fault
from tests.raw_server import Speak

# Whatever else an answer says, this must not come out where no session does.
SECRET = "ek_" + "sentinel" * 3
ANSWER: dict[str, Any] = {"client_secret": SECRET, "expires_at": 4_102_444_800, "id": "cksess_1"}
# Replaced by the address of another server, to which nothing may be sent, and by HTTP dates.
ELSEWHERE, IN_TWO_MINUTES, SOON = "{elsewhere}", "{in two minutes}", "{soon}"

CHUNKED = {"Transfer-Encoding": "chunked"}
GZIP = {"Content-Encoding": "gzip"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    fault: how the API misbehaves, so many times; then it is itself again.
    speak: what a server says that is not even the API.
    status, code: of the answer to the browser.
    retry_after: what Retry-After says there: nothing, or one of these.
    upstream: the HTTP status of the API's last answer, as the audit row has it.
    attempts: how many requests the API got.
    at_least: seconds that it takes, where the API asked for patience.
    """

    fault: Fault | None = None
    times: int = 99
    speak: Speak | None = None
    status: int
    code: str | None
    retry_after: tuple[str, ...] = ()
    upstream: int | None = None
    attempts: int = 1
    at_least: float = 0


def refusal(status: int, **headers: str) -> Fault:
    error = {"message": f"No: {SECRET}", "type": SECRET, "param": SECRET, "code": SECRET}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(status=status, body={"error": error}, headers=named)


def issued(
    fault: Fault | None = None, *, speak: Speak | None = None, attempts: int = 1, at_least: float = 0
) -> Row:
    return Row(
        fault=fault,
        speak=speak,
        times=1,
        status=201,
        code=None,
        upstream=200,
        attempts=attempts,
        at_least=at_least,
    )


def rejected(status: int, *, attempts: int = 1, **headers: str) -> Row:
    return Row(
        fault=refusal(status, **headers),
        status=502,
        code="upstream_rejected",
        upstream=status,
        attempts=attempts,
    )


def busy(*retry_after: str, attempts: int = 2, fault: Fault | None = None, **headers: str) -> Row:
    return Row(
        fault=fault or refusal(429, **headers),
        status=503,
        code="upstream_rate_limited",
        retry_after=retry_after,
        upstream=429,
        attempts=attempts,
    )


def down(
    status: int, *retry_after: str, attempts: int = 2, fault: Fault | None = None, **headers: str
) -> Row:
    return Row(
        fault=fault or refusal(status, **headers),
        status=503,
        code="upstream_unavailable",
        retry_after=retry_after or ("5",),
        upstream=status,
        attempts=attempts,
    )


def broken(*, fault: Fault | None = None, speak: Speak | None = None) -> Row:
    """No answer, and none to be expected from the connection: tried again."""
    return Row(
        fault=fault,
        speak=speak,
        status=503,
        code="upstream_unavailable",
        retry_after=("5",),
        attempts=2,
    )


def late(*, fault: Fault | None = None, speak: Speak | None = None, upstream: int | None = None) -> Row:
    """No answer in time: the API may have made a session, so it is not asked again."""
    return Row(fault=fault, speak=speak, status=504, code="upstream_timeout", upstream=upstream)


def unusable(*, fault: Fault | None = None, speak: Speak | None = None, upstream: int = 200) -> Row:
    return Row(fault=fault, speak=speak, status=502, code="upstream_invalid_response", upstream=upstream)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in ANSWER.items() if key != name}


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def answer_without_end(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(32 * 1024):  # 32 MiB are as good as no end
        connection.sendall(b"400\r\n%s\r\n" % (b"x" * 1024))


def headers_without_end(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    for _ in range(10_000):
        connection.sendall(b"X-More: 1\r\n" * 100)


def patience_without_end(connection: socket.socket, over: threading.Event) -> None:
    for _ in range(100):
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        over.wait(0.1)


def another_protocol(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"220 mail.example ESMTP ready\r\n")


def patience_without_end_or_pause(connection: socket.socket, over: threading.Event) -> None:
    for _ in range(20_000):
        if over.is_set():
            return
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def reset(connection: socket.socket) -> None:
    """Hang up so that the other side gets a reset, and not the end."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def reset_at_once(connection: socket.socket, over: threading.Event) -> None:
    reset(connection)


def reset_in_the_body(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + GOOD)
    over.wait(0.2)  # so that it has been read
    reset(connection)


def until_it_hangs_up(body: bytes, *, pause: float = 0) -> Speak:
    """Answer without saying how long the body is: it ends with the connection."""

    def speak(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        if not pause:
            connection.sendall(body)
            return
        for position in range(len(body)):
            connection.sendall(body[position : position + 1])
            over.wait(pause)

    return speak


GOOD = json.dumps(ANSWER).encode()

ROWS: dict[str, Row] = {
    # --- statuses
    "400": rejected(400),
    "401": rejected(401),
    "403": rejected(403),
    "404": rejected(404),
    "408": down(408),
    "409": rejected(409, attempts=2),
    "422": rejected(422),
    "429": busy("5"),
    "500": down(500),
    "502": down(502),
    "503": down(503),
    "504": down(504),
    "500 and then fine": issued(refusal(500), attempts=2),
    # --- what the API says about trying again
    "400, try again": rejected(400, attempts=2, x_should_retry="true"),
    "400, try again, and then fine": issued(refusal(400, x_should_retry="true"), attempts=2),
    "429, do not": busy("5", attempts=1, x_should_retry="false"),
    "500, do not": down(500, attempts=1, x_should_retry="false"),
    "429 for 50 ms and then fine": issued(refusal(429, retry_after_ms="50"), attempts=2),
    "429 for 50 ms at a time": busy("1", retry_after_ms="50"),
    "503 for a second and then fine": issued(refusal(503, retry_after="1"), attempts=2, at_least=1),
    "503 until a moment ahead and then fine": issued(refusal(503, retry_after=SOON), attempts=2),
    "503 until a moment past": down(503, "1", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"),
    "503 for longer than DEADLINE": down(503, "3", attempts=1, retry_after="3"),
    "429 for longer than any retry waits": busy("300", attempts=1, retry_after="300"),
    "503 until in two minutes": down(503, "119", "120", attempts=1, retry_after=IN_TWO_MINUTES),
    # --- connections
    "dropped": broken(fault=Fault(drop=True)),
    "dropped and then fine": issued(Fault(drop=True), attempts=2),
    "another protocol": broken(speak=another_protocol),
    "headers without end": broken(speak=headers_without_end),
    "reset": broken(speak=reset_at_once),
    # --- too late
    "no answer": late(fault=Fault(delay=60)),
    "dripping headers": late(fault=Fault(drip_headers=0.3)),
    "dripping body": late(fault=Fault(drip=0.3), upstream=200),
    "a body that stalls": late(fault=Fault(drip=60), upstream=200),
    "100 Continue without end": late(speak=patience_without_end),
    "100 Continue without end or pause": late(speak=patience_without_end_or_pause),
    "a dripping body of no known length": late(speak=until_it_hangs_up(GOOD, pause=0.3), upstream=200),
    # --- too much
    "more than 1 MiB": unusable(fault=Fault(body={**ANSWER, "more": "x" * 1024 * 1024})),
    "an error of more than 1 MiB": unusable(fault=Fault(status=404, body=SECRET * 100_000), upstream=404),
    "a body without end": unusable(speak=answer_without_end),
    "a gzip bomb": unusable(fault=Fault(body=gzip.compress(b" " * 32 * 1024 * 1024), headers=GZIP)),
    # --- an error whose body is of no use: the status says enough
    "503 cut short": down(
        503, "1", fault=Fault(status=503, headers={"Retry-After": "0"}, body=GOOD, truncate=9)
    ),
    "502 of more than 1 MiB": down(502, fault=Fault(status=502, body=SECRET * 100_000)),
    "503 wrongly compressed": down(503, fault=Fault(status=503, body=GOOD, headers=GZIP)),
    "503 that drips": down(503, attempts=1, fault=Fault(status=503, drip=0.3)),
    "429 cut short": busy("5", fault=Fault(status=429, body=GOOD, truncate=9)),
    # --- elsewhere
    "301": unusable(fault=Fault(status=301, headers={"Location": ELSEWHERE}), upstream=301),
    "302": unusable(fault=Fault(status=302, headers={"Location": ELSEWHERE}), upstream=302),
    "303": unusable(fault=Fault(status=303, headers={"Location": ELSEWHERE}), upstream=303),
    "304": unusable(fault=Fault(status=304), upstream=304),
    "308": unusable(fault=Fault(status=308, headers={"Location": ELSEWHERE}), upstream=308),
    "307": unusable(fault=Fault(status=307, headers={"Location": ELSEWHERE}), upstream=307),
    # --- not what was promised
    "204": unusable(fault=Fault(status=204), upstream=204),
    "a page": unusable(fault=Fault(body=f"<!doctype html>{SECRET}", headers={"Content-Type": "text/html"})),
    "a page with an error": Row(
        fault=Fault(status=502, body=f"<!doctype html>{SECRET}"),
        status=503,
        code="upstream_unavailable",
        retry_after=("5",),
        upstream=502,
        attempts=2,
    ),
    "an empty body": unusable(fault=Fault(body=b"")),
    "JSON that breaks off": unusable(fault=Fault(body=GOOD[:-5])),
    "a body cut short": unusable(fault=Fault(body=GOOD, truncate=len(GOOD) - 5)),
    "a body cut short, try again": unusable(
        fault=Fault(body=GOOD, truncate=9, headers={"x-should-retry": "true"})
    ),
    "a list": unusable(fault=Fault(body=[ANSWER])),
    "a string": unusable(fault=Fault(body=json.dumps(SECRET))),
    "no secret": unusable(fault=Fault(body=without("client_secret"))),
    "an empty secret": unusable(fault=Fault(body={**ANSWER, "client_secret": ""})),
    "a secret of a wrong type": unusable(fault=Fault(body={**ANSWER, "client_secret": [SECRET]})),
    "no expiry": unusable(fault=Fault(body=without("expires_at"))),
    "an expiry of a wrong type": unusable(fault=Fault(body={**ANSWER, "expires_at": "2100-01-01"})),
    "an id of a wrong type": unusable(fault=Fault(body={**ANSWER, "id": 5})),
    "reset in its body": unusable(speak=reset_in_the_body),
    "a body of no known length cut short": unusable(speak=until_it_hangs_up(GOOD[:-5])),
    # --- how it is sent
    "of no known length": issued(speak=until_it_hangs_up(GOOD)),
    "compressed": issued(Fault(body=gzip.compress(GOOD), headers=GZIP)),
    "wrongly compressed": unusable(fault=Fault(body=GOOD, headers=GZIP)),
    "half of what is compressed": unusable(fault=Fault(body=gzip.compress(GOOD)[:-20], headers=GZIP)),
    "in chunks": issued(Fault(body=chunked(GOOD), headers=CHUNKED)),
    "in broken chunks": unusable(fault=Fault(body=b"zz\r\n" + GOOD, headers=CHUNKED)),
    "in chunks that break off": unusable(fault=Fault(body=chunked(GOOD), headers=CHUNKED, truncate=40)),
}
