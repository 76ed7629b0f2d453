"""Rows and scores → one HTML file that needs nothing else: no server, no network, no other file.

Names of files and classes are anybody's: each goes through `sections.text`, or through `_json` into the page's data,
from where its script takes it as text alone. The page's own policy (CSP) lets no other script run and fetches nothing.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from string import Template

from inception_cli import __version__
from inception_cli.names import harmless
from inception_cli.results.rows import Prediction
from inception_cli.results.samples import PAIRS, Samples, Shown, gather
from inception_cli.results.sections import Judgement, Pictures, Section, sections, text, tiles, title

PICTURE_BYTES = 17_000_000  # of all pictures in a page, as base64: so the page stays below 20 MB


@dataclass(frozen=True)
class About:
    """How the rows were made, in words."""

    lead: str  # a sentence
    facts: Mapping[str, str]


@dataclass(frozen=True)
class Written:
    """What came of a report."""

    page: bytes
    photos: int  # shown
    without_picture: int  # of them


def report(
    rows: Iterable[Prediction],
    judgement: Judgement | None,
    about: About,
    thumbnail: Callable[[str], bytes],
) -> Written:
    """The page. `rows` are read once.

    `thumbnail` gives the JPEG of a photo, b"" where there is none; it is asked from several threads, about no more than
    2,000 photos.
    """
    confused = judgement.scores.confusions[:PAIRS] if judgement else ()
    samples = gather(rows, judgement.truth if judgement else None, [(each.truth, each.predicted) for each in confused])
    shown = {each.number: each for each in _all_shown(samples)}
    pictures = _pictures(samples, shown, thumbnail)
    listed = [*sections(samples, judgement, confused, pictures), _about(about.facts)]
    style, script = _file("page.css"), _file("page.js")
    page = Template(_file("page.html")).substitute(
        title=title(samples, judgement),
        lead=text(about.lead),
        tiles="\n".join(tiles(samples, judgement)),
        contents="\n".join(f'<li><a href="#{each.anchor}">{each.name}</a></li>' for each in listed),
        sections="\n".join(each.html for each in listed),
        made=f"Made on {date.today().isoformat()} by inception {__version__}.",
        generator=f"inception {__version__}",
        data=_json(_data(shown, judgement)),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
    )
    return Written(page.encode(), len(shown), sum(not picture for picture in pictures.values()))


def _about(facts: Mapping[str, str]) -> Section:
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(fact)}</dd>" for name, fact in facts.items())
    return Section("about", "About", "How it was made", f'<dl class="facts">{listed}</dl>')


def _all_shown(samples: Samples) -> list[Shown]:
    """Every photo of the page, those that matter most first; some are there twice."""
    few = [*samples.mistakes, *(each for some in samples.pairs.values() for each in some), *samples.least_sure]
    return few + [each for some in samples.gallery.values() for each in some]


def _pictures(samples: Samples, shown: Mapping[int, Shown], thumbnail: Callable[[str], bytes]) -> Pictures:
    """The picture of each photo, until there are PICTURE_BYTES of them; decoding lets other threads run."""
    times: dict[int, int] = {}
    for each in _all_shown(samples):
        times[each.number] = times.get(each.number, 0) + 1
    pictures, room = {}, PICTURE_BYTES
    with ThreadPoolExecutor() as pool:
        for number, data in zip(shown, pool.map(thumbnail, [each.row.path for each in shown.values()]), strict=True):
            picture = base64.b64encode(data).decode()
            room -= len(picture) * times[number]
            pictures[number] = picture if room >= 0 else ""
    return pictures


def _data(shown: Mapping[int, Shown], judgement: Judgement | None) -> dict[str, object]:
    """What the script knows: photos as [path, classes, scores, answers] by number, and the names of those classes."""
    labels: dict[int, str] = {}
    for each in shown.values():
        labels.update(zip(each.row.classes, map(harmless, each.row.labels), strict=True))
        if judgement:
            labels.update((index, harmless(judgement.truth.classes.names[index])) for index in each.answers)
    rows = {
        number: [harmless(each.row.path), each.row.classes, each.row.scores, each.answers]
        for number, each in shown.items()
    }
    return {"labels": labels, "photos": rows}


def _json(value: object) -> str:
    r"""JSON that can stand within a script element: `<` is \u003c, and nothing but ASCII."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _file(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


def _hash(content: str) -> str:
    """What the page's policy knows its one style and its one script by."""
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
