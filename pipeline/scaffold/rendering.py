"""The templates, which are package data, and what is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from string import Template

PROJECT, PARTS = "project", "parts"
SUFFIX = ".template"


def rendered(folder: str, name: str, values: Mapping[str, str]) -> str:
    """Return a template with its placeholders filled in; an unknown placeholder is an error of ours."""
    text = files(__package__).joinpath("templates", folder, name + SUFFIX).read_text("utf-8")
    return Template(text).substitute(values)
