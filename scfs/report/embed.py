"""Figures inside the page: SVG as elements that follow the page's theme, PNG as data URIs."""

import base64
import re

from markupsafe import Markup, escape

from scfs.report import canvas
from scfs.report.plot_styles import DARK, LIGHT, UNTRAINED_DARK, UNTRAINED_LIGHT

THEME = [
    *((f"--series-{index}", *colours) for index, colours in enumerate(zip(LIGHT, DARK, strict=True))),
    ("--untrained", UNTRAINED_LIGHT, UNTRAINED_DARK),
]
"""CSS variables of the configurations' colours, with their values on a light and on a dark page."""
VARIABLES = {
    **{canvas.INK: "--ink", canvas.QUIET: "--quiet", canvas.RULE: "--rule", canvas.PAPER: "--sheet"},
    **{light: variable for variable, light, _ in THEME},
}
"""The figures' colours and the CSS variables of the page that replace them."""


def inline_svg(drawing: bytes, name: str, label: str) -> Markup:
    """Turn an SVG file into an element without size or addresses, its ids prefixed by `name`, in the page's colours."""
    text = drawing.decode()
    text = text[text.index("<svg") :]
    opening, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    assert box is not None
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", body)
    for colour, variable in VARIABLES.items():
        body = body.replace(colour, f"var({variable})")
    return Markup(f'<svg {box[0]} role="img" aria-label="{escape(label)}">{body}')


def inline_png(drawing: bytes, label: str) -> Markup:
    """Turn a PNG file into an element that holds it."""
    uri = "data:image/png;base64," + base64.b64encode(drawing).decode()
    return Markup('<img src="{}" alt="{}">').format(uri, label)
