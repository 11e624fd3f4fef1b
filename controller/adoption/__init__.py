"""Taking a fleet as it is: what a first look finds, and the first documents that follow from it."""

from .first_documents import first_documents, free_name
from .survey import GroupSurvey, Obstacle, survey

__all__ = ["GroupSurvey", "Obstacle", "first_documents", "free_name", "survey"]
