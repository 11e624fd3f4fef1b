"""Runs the backend from its synthesised CloudFormation template: nothing about it is declared twice."""

from .stack import Stack
from .template import TemplateError, load, with_authorities

__all__ = ["Stack", "TemplateError", "load", "with_authorities"]
