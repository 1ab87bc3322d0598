"""Observing a run of the tests without changing what the tests see."""

from __future__ import annotations

import json
import logging
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.core.mail.backends.locmem import EmailBackend
from django.core.management.base import OutputWrapper
from django.test.client import AsyncClientHandler, ClientHandler
from django.urls import Resolver404, resolve
from requests.adapters import HTTPAdapter

from chatkit_sessions.client import answers
from chatkit_sessions.standin import StandIn

from .records import Records

_CLIENT_SECRET = re.compile(rb'"client_secret":\s*"([^"\\]+)"')
# Its debug lines carry all that the browser holds, and a browser has its secret by right.
_DRIVERS = ("selenium",)
_PLAIN_RECORD = frozenset(vars(logging.makeLogRecord({})))
_formatter = logging.Formatter()


class Taps:
    """Hand what passes on to the records of the moment."""

    def __init__(self, records: Records) -> None:
        self.records = records

    @contextmanager
    def into(self, records: Records) -> Iterator[Records]:
        """Hand everything to other records in this block."""
        usual, self.records = self.records, records
        try:
            yield records
        finally:
            self.records = usual

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Put the taps in, until the patch is undone."""
        self._watch_the_wire(patch)
        self._watch_logging(patch)
        for handler in (ClientHandler, AsyncClientHandler):
            patch.setattr(handler, "__call__", _tapped(handler.__call__, self))
        self._watch_output(patch)
        self._watch_mail(patch)

    def response(self, request: Any, response: Any) -> None:
        """Write a response down: all but the one secret that an answer to POST sessions/ is made for."""
        lines = [f"{name}: {value}" for name, value in response.items()]
        lines += [morsel.OutputString() for morsel in response.cookies.values()]
        body = "" if response.streaming else response.content.decode(errors="backslashreplace")
        if response.status_code in (200, 201) and _issues(request):
            content = json.loads(body)
            content.pop("client_secret")
            body = json.dumps(content)
        self.records.write("response", "\n".join([*lines, body]))

    def log(self, record: logging.LogRecord) -> None:
        """Write a log record down, with its traceback and what is attached to it for error trackers."""
        if record.name.partition(".")[0] in _DRIVERS:
            return
        try:
            lines = [f"{record.name} {record.getMessage()}"]
        except Exception:  # the handlers of logging take a broken record in their stride too
            lines = [f"{record.name} {record.msg!r} {record.args!r}"]
        # Written out, the error of a missing template variable shows the whole context, for which lazy
        # querysets ask the database: test_error_pages.py looks at it where nobody counts queries.
        if record.exc_info and record.name != "django.template":
            # The record keeps no copy, as it does after format(): other formatters make their own.
            lines.append(_formatter.formatException(record.exc_info))
        lines += [f"{key}={value!r}" for key, value in vars(record).items() if key not in _PLAIN_RECORD]
        self.records.write("log", "\n".join(lines))

    def _watch_the_wire(self, patch: pytest.MonkeyPatch) -> None:
        """Learn secrets and keys at both ends: some tests have a server of their own, some a client."""
        respond, send, decode = StandIn._respond, HTTPAdapter.send, answers.decode

        def standin_responds(standin: StandIn, request: Any, refusal: Any) -> Any:
            answer, fault = respond(standin, request, refusal)
            self._learn(request.bearer, answer.body)
            return answer, fault

        def client_sends(adapter: HTTPAdapter, request: Any, *args: Any, **kwargs: Any) -> Any:
            self._learn(request.headers.get("Authorization", "").removeprefix("Bearer "))
            return send(adapter, request, *args, **kwargs)

        def client_reads(content: bytes) -> Any:
            self._learn("", content)
            return decode(content)

        patch.setattr(StandIn, "_respond", standin_responds)
        patch.setattr(HTTPAdapter, "send", client_sends)
        patch.setattr(answers, "decode", client_reads)

    def _learn(self, key: str, body: bytes = b"") -> None:
        if key:
            self.records.saw(key)
        for secret in _CLIENT_SECRET.findall(body):
            self.records.saw(secret.decode(errors="replace"))

    def _watch_logging(self, patch: pytest.MonkeyPatch) -> None:
        """Have every record made, at every level; handlers get those only that they would have got anyway.

        A handler on the root logger would see neither what is below a logger's level nor what is not
        propagated, and to lower levels would be seen by the tests.
        """
        is_enabled, call_handlers = logging.Logger.isEnabledFor, logging.Logger.callHandlers

        def call(logger: logging.Logger, record: logging.LogRecord) -> None:
            self.log(record)
            if is_enabled(logger, record.levelno):
                call_handlers(logger, record)

        patch.setattr(logging.Logger, "isEnabledFor", lambda logger, level: True)
        patch.setattr(logging.Logger, "callHandlers", call)

    def _watch_output(self, patch: pytest.MonkeyPatch) -> None:
        """Watch what commands, captured tests and child processes print."""
        write, read = OutputWrapper.write, pytest.CaptureFixture.readouterr
        communicate = subprocess.Popen.communicate

        def command_writes(stream: Any, msg: str = "", *args: Any, **kwargs: Any) -> None:
            self.records.write("output", str(msg))
            write(stream, msg, *args, **kwargs)

        def test_reads(fixture: Any) -> Any:
            captured = read(fixture)
            self.records.write("output", f"{captured.out}\n{captured.err}")
            return captured

        def child_ends(process: Any, *args: Any, **kwargs: Any) -> Any:
            printed = communicate(process, *args, **kwargs)
            for text in filter(None, printed):
                self.records.write("output", text if isinstance(text, str) else text.decode(errors="replace"))
            return printed

        patch.setattr(OutputWrapper, "write", command_writes)
        patch.setattr(pytest.CaptureFixture, "readouterr", test_reads)
        patch.setattr(subprocess.Popen, "communicate", child_ends)

    def _watch_mail(self, patch: pytest.MonkeyPatch) -> None:
        """Watch what is mailed, before it is encoded."""
        send = EmailBackend.send_messages

        def backend_sends(backend: EmailBackend, messages: Any) -> Any:
            for message in messages:
                self.records.write("mail", repr(vars(message)))
            return send(backend, messages)

        patch.setattr(EmailBackend, "send_messages", backend_sends)


def _issues(request: Any) -> bool:
    """Return whether it is a request that issues a session."""
    try:
        return request.method == "POST" and resolve(request.path_info).view_name.endswith("session-list")
    except Resolver404:
        return False


def _tapped(call: Callable[..., Any], taps: Taps) -> Callable[..., Any]:
    """Return the handler of a test client with the taps behind it."""
    if call is AsyncClientHandler.__call__:

        async def acall(handler: Any, scope: Any) -> Any:
            response = await call(handler, scope)
            taps.response(response.asgi_request, response)
            return response

        return acall

    def plain_call(handler: Any, environ: Any) -> Any:
        response = call(handler, environ)
        taps.response(response.wsgi_request, response)
        return response

    return plain_call
