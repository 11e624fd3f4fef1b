"""Runs the backend from its synthesised CloudFormation template: nothing about it is declared twice."""

from .stack import Stack
from .template import TemplateError, load

__all__ = ["Stack", "TemplateError", "load"]
