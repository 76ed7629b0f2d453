"""The Jinja2 environment of the pages: every value is escaped, and control characters are made visible."""

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from inception_cli.predictions.intervals import percent
from inception_cli.predictions.text import harmless


def environment() -> Environment:
    """Return a Jinja2 environment whose templates are the files of this folder."""
    made = Environment(
        loader=FunctionLoader(read),
        autoescape=True,
        finalize=_visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["thousands"] = "{:,}".format
    made.filters["percent"] = percent
    made.filters["csp_hash"] = _csp_hash
    made.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return made


def read(name: str) -> str:
    """Return the text of a file of this folder."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _visible(value: object) -> object:
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _csp_hash(content: str) -> str:
    """Return the hash by which the content security policy allows a style or a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
