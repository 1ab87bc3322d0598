"""Try the real thing, and say what is wrong in terms of what to do."""

from .examination import examine
from .findings import Diagnosis, Finding, Level, Outcome

__all__ = ["Diagnosis", "Finding", "Level", "Outcome", "examine"]
