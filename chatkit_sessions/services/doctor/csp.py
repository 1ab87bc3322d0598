"""Whether a Content-Security-Policy lets an address through. Source: W3C, Content Security Policy Level 3."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

# Each falls back to the next one where a policy does not name it.
_CHAINS = {
    "script-src": ("script-src-elem", "script-src", "default-src"),
    "style-src": ("style-src-elem", "style-src", "default-src"),
    "frame-src": ("frame-src", "child-src", "default-src"),
    "connect-src": ("connect-src", "default-src"),
}
# The widget's tags carry the page's nonce.
_WITH_NONCE = ("script-src", "style-src")
_PORTS = {"http": 80, "https": 443}


def forbidding(header: str, wanted: str, address: str, own_host: str) -> str:
    """Return the directive that keeps an address out of what is wanted of it, or "" where none does."""
    target, chain = urlsplit(address), _CHAINS[wanted]
    for policy in header.lower().split(","):
        directives: dict[str, list[str]] = {}
        for directive in policy.split(";"):
            name, *sources = directive.split() or [""]
            directives.setdefault(name, sources)
        name = next((name for name in chain if name in directives), "")
        sources = directives.get(name, [])
        if wanted in _WITH_NONCE and any(source.startswith("'nonce-") for source in sources):
            continue
        if name and not any(_allows(source, target, own_host) for source in sources):
            return name
    return ""


def _allows(source: str, target: SplitResult, own_host: str) -> bool:
    if source == "*":
        return True
    if source.endswith(":"):
        return source == f"{target.scheme}:"
    if source == "'self'":
        return target.hostname == own_host
    scheme, _separator, rest = source.rpartition("://")
    # A path is left out: the widget's frame has one that nobody publishes.
    host, _separator, port = rest.partition("/")[0].partition(":")
    return (
        (scheme in ("", target.scheme) or (scheme, target.scheme) == ("http", "https"))
        and port in ("", "*", str(target.port or _PORTS.get(target.scheme)))
        and _is_host(host, target.hostname or "")
    )


def _is_host(pattern: str, host: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
