"""Log evidence of a posterior, and the choice of temperature, widths and heads by it."""

from .estimate import Evidence, EvidenceWarning, evidence
from .selection import select

__all__ = ["Evidence", "EvidenceWarning", "evidence", "select"]
