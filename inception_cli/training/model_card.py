"""The model card of trained weights: README.md of a folder in timm's layout."""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined

from inception_cli import __version__
from inception_cli.predictions.intervals import wilson
from inception_cli.predictions.text import harmless
from inception_cli.training.settings import TrainConfig
from inception_cli.weights.registry import FOLDER_PREFIX

#: Characters that Markdown, as the hub renders it, would interpret.
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~$&@^:=-])")


def model_card(
    config: TrainConfig, classes: Sequence[str], record: Mapping[str, Any], has_familiarity: bool = False
) -> str:
    """Return the model card in Markdown: accuracy with 95 % intervals, data, recipe, use; the licence is left open.

    `record` is the training's metadata. The names of files and classes are escaped.
    """
    environment = Environment(
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined, autoescape=False
    )
    environment.filters |= {"markdown": _markdown, "code": _code, "python": _python, "shell": shlex.quote}
    template = environment.from_string(files("inception_cli.training").joinpath("model_card.md.j2").read_text("utf-8"))
    return template.render(
        name=config.out.name,
        location=f"{FOLDER_PREFIX}{config.out.name}",
        version=__version__,
        classes=classes,
        start=config.start,
        start_name=config.start_name,
        preset=config.preset,
        record=record,
        recipe=json.dumps(json.loads(record["recipe"]), indent=1),
        rows=_rows(classes, record["val_per_class"]),
        right=sum(record["val_per_class"]["right"]),
        interval=_interval,
        has_familiarity=has_familiarity,
    )


def _rows(classes: Sequence[str], counts: Mapping[str, Sequence[int]]) -> list[dict[str, Any]]:
    """Return a row for each class: its validation photos, recall with its interval, precision; – where there is none.

    `counts` has for each class the photos `n`, those that are predicted `right`, and all that are `predicted` as it.
    """
    return [
        {
            "name": name,
            "n": n,
            "recall": _percent(right, n),
            "interval": _interval(right, n),
            "precision": _percent(right, predicted),
        }
        for name, n, right, predicted in zip(classes, counts["n"], counts["right"], counts["predicted"], strict=True)
    ]


def _percent(right: int, n: int) -> str:
    return f"{100 * right / n:.1f}" if n else "–"


def _interval(right: int, n: int) -> str:
    return "{:.1f} to {:.1f}".format(*wilson(right, n)) if n else "–"


def _markdown(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return _MARKDOWN.sub(r"\\\1", harmless(text))


def _code(text: str) -> str:
    """Return text for a code span, in which backslashes have no effect."""
    return harmless(text).replace("`", "'")


def _python(text: str) -> str:
    return repr(harmless(text)).replace("```", r"\x60``")
