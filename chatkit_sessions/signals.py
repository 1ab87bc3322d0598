"""Signals, sent robustly: a failing receiver is logged and changes nothing. None carries a secret.

All come with ``session``, the audit row. ``session_failed`` comes also with ``error``, ``session_cancelled``
with ``by`` (an account or None) and ``reason``.
"""

from __future__ import annotations

from django.dispatch import Signal

session_issued = Signal()
session_reused = Signal()
session_failed = Signal()
session_cancelled = Signal()
