"""Texts for readers, written as Jinja templates in the folders of the modules that fill them in."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def filled_in(template: Path, **values: Any) -> str:
    """Fill in a template; a name without a value is an error, and values are escaped in HTML and XML."""
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=template.name.endswith((".html.j2", ".xml.j2")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template.name).render(values)
