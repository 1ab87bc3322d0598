"""A stand-in for the ChatKit API, for tests and demos without network or key; standard library only."""

from . import items
from .exchange import RecordedRequest
from .faults import Fault
from .standin import StandIn

__all__ = ["Fault", "RecordedRequest", "StandIn", "items"]
