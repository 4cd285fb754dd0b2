"""Log evidence of a posterior, and the choice of temperature, widths and heads by it."""

from .selection import select
from .tempering import Evidence, EvidenceWarning, evidence

__all__ = ["Evidence", "EvidenceWarning", "evidence", "select"]
