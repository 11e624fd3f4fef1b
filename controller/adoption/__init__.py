"""Taking a fleet as it is: what a first look finds, and the first documents that follow from it."""

from .ci import CI_FOLDERS, ci_files
from .first_documents import first_documents, free_name
from .survey import GroupSurvey, Obstacle, survey

__all__ = ["CI_FOLDERS", "GroupSurvey", "Obstacle", "ci_files", "first_documents", "free_name", "survey"]
