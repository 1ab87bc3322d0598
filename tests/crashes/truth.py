"""What no row of the audit may ever be, whatever became of the process that wrote it."""

from collections.abc import Callable, Mapping

from chatkit_sessions.models import ISSUED, ChatSession, Status

RUNNING = (Status.PENDING, Status.ACTIVE)


def flaws(row: ChatSession) -> list[str]:
    """Return the rules that a row breaks."""
    return [rule for rule, holds in RULES.items() if not holds(row)]


def impossible_rows() -> list[str]:
    """Return every row of the table that breaks a rule, with the rules."""
    broken = {row: flaws(row) for row in ChatSession.objects.all()}
    return [f"{row.reference} is {row.status}: {', '.join(rules)}" for row, rules in broken.items() if rules]


def _was_issued(row: ChatSession) -> bool:
    return row.status in ISSUED


def _has_what_the_api_gave(row: ChatSession) -> bool:
    was_answered = row.upstream_status == 200 and row.latency_ms is not None
    given = (row.upstream_id, row.issued_at, row.response, was_answered)
    # One that was cancelled while it was being issued was handed out to nobody.
    was_handed_out = row.handed_out_count >= 1 and row.last_handed_out_at is not None
    return all(given) and len(row.secret_digest) == 64 and (was_handed_out or row.status == Status.CANCELLED)


def _has_nothing_of_the_api(row: ChatSession) -> bool:
    given = (row.upstream_id, row.secret_digest, row.issued_at, row.response, row.last_handed_out_at)
    return not any(given) and row.handed_out_count == 0


def _is_in_order(row: ChatSession) -> bool:
    # Handing out and ending may come at once, and each has looked at the clock before it wrote.
    begun = [row.created_at, row.issued_at]
    orders = ([*begun, row.last_handed_out_at], [*begun, row.ended_at, row.cancel_requested_at])
    known = [[moment for moment in order if moment is not None] for order in orders]
    return all(order == sorted(order) for order in known) and row.created_at < row.expires_at


RULES: Mapping[str, Callable[[ChatSession], bool]] = {
    "an issued session has what the API gave": lambda row: (
        not _was_issued(row) or _has_what_the_api_gave(row)
    ),
    "one that was not issued has nothing of it": lambda row: _was_issued(row) or _has_nothing_of_the_api(row),
    "pending and active ones alone have no end": lambda row: (
        (row.status in RUNNING) == (row.ended_at is None)
    ),
    "what failed or goes on is not to be cancelled at the API": lambda row: (
        row.cancel_requested_at is None or row.status in (Status.CANCELLED, Status.PENDING, Status.LOST)
    ),
    "a failed one alone has an error": lambda row: (row.status == Status.FAILED) == bool(row.error_code),
    "its moments are in order": _is_in_order,
    "it was attempted": lambda row: row.attempts >= 1,
    "it is somebody's": lambda row: len(row.identity_key) == 64 and bool(row.identifier),
    "it has a policy": lambda row: bool(row.policy and row.workflow_id),
}
