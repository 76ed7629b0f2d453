"""The report: what it counts and shows, whatever the number of rows; names stay text; the command that makes it."""

import base64
import csv
import json
import random
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from reported import CLASSES, HOSTILE, judgement, picture, prediction, rows, written
from running import Inception, code_of

from inception_cli.images.thumbnail import SIDE, thumbnail
from inception_cli.names import harmless
from inception_cli.results import samples
from inception_cli.results.rows import Prediction
from inception_cli.results.samples import gather


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its elements with their attributes, its text, its scripts."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        elif self.cdata_elem is None:
            self.text += data


def test_names_stay_text() -> None:
    page = written(rows(), judgement(rows())).page
    parsed = Parsed(page)

    tags = Counter(tag for tag, _ in parsed.elements)
    assert (tags["script"], tags["b"], tags["i"]) == (2, 1, 0)  # one b is the slider's figure
    assert {name for _, attributes in parsed.elements for name in attributes if name.startswith("on")} == set()
    titles = {attributes.get("title") for tag, attributes in parsed.elements if tag == "button"}
    assert {harmless(f"in/{name}") for name in HOSTILE} <= titles
    assert HOSTILE[0] in parsed.text
    assert f"labelled {harmless(CLASSES.names[2])}" in parsed.text
    assert "\\udcff" not in parsed.text
    assert "\\xff\\x80 bytes.jpg" in parsed.text
    assert [char for char in page.decode() if char in "\u2028\u2029\u202e\r\0"] == []


def test_the_data_is_json_that_ends_no_script() -> None:
    data, script = Parsed(written(rows(), judgement(rows())).page).scripts

    assert "<" not in data
    assert data.isascii()
    assert json.loads(data)["labels"]["1"] == CLASSES.names[1]
    assert {path for path, *_ in json.loads(data)["photos"].values()} == {
        harmless(row.path) for row in rows() if row.status == "ok"
    }
    assert script.startswith('"use strict"')


def test_the_page_names_nothing_outside_of_itself() -> None:
    parsed = Parsed(written(rows(), judgement(rows())).page)

    names = ("src", "href", "action", "srcset", "data", "poster", "xlink:href")
    links = [value or "" for _, attributes in parsed.elements for name, value in attributes.items() if name in names]
    assert links
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    policy = next(each["content"] for tag, each in parsed.elements if tag == "meta" and "http-equiv" in each)
    assert policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy


def test_no_name_in_the_page_is_given_twice() -> None:
    ids = Counter(each["id"] for _, each in Parsed(written(rows(), judgement(rows())).page).elements if "id" in each)

    assert ids["gallery"] == 1
    assert [name for name, number in ids.items() if number > 1] == []


def test_failed_files_have_their_reasons() -> None:
    text = Parsed(written(rows()).page).text

    assert "2 files have a row without a class: 1 corrupt, 1 missing." in text
    assert "in/<script>bad.jpg" in text
    assert "damaged picture: <b>&</b>" in text


def test_counts_are_those_of_the_rows() -> None:
    found = gather(rows(), judgement(rows()).truth, [(1, 0)])

    assert (found.rows, found.ok, dict(found.classes)) == (38, 36, {0: 12, 1: 12, 2: 12})
    assert sum(found.confidence.values()) == 36
    assert sum(number for (_, right), number in found.confidence.items() if right is False) == 9
    assert [each.row.scores[0] for each in found.least_sure] == sorted(row.scores[0] for row in rows() if row.classes)
    assert [each.right for each in found.mistakes] == [False] * 9
    assert found.mistakes[0].row.scores[0] == pytest.approx(0.8)
    assert [each.row.classes[0] for each in found.pairs[1, 0]] == [0, 0, 0]
    assert [each.answers for each in found.pairs[1, 0]] == [(1,)] * 3


def test_a_score_of_one_has_a_bin() -> None:
    assert dict(gather([prediction("a", 0, 1.0)]).confidence) == {(samples.BINS - 1, None): 1}


def test_the_gallery_is_an_even_sample_of_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "GALLERY", 60)
    sizes = (5, 500, 3000)
    some = [prediction(str(number), best, 0.5) for best, size in enumerate(sizes) for number in range(size)]
    random.Random(1).shuffle(some)

    found = gather(some)

    kept = {best: len(shown) for best, shown in found.gallery.items()}
    assert kept[0] == 5
    assert kept[1] == kept[2] == found.per_class == 27
    # Drawn evenly: 27 of 3000 numbers have their mean within four of its standard errors of the middle.
    numbers = [int(each.row.path) for each in found.gallery[2]]
    assert abs(sum(numbers) / 27 - 1500) < 4 * 3000 / (12 * 27) ** 0.5


@pytest.mark.parametrize("classes", [1, 3, 50])
def test_the_gallery_never_holds_more_than_its_limit(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "GALLERY", 20)
    some = [Prediction(str(number), "ok", (number % classes,), ("x",), (0.5,)) for number in range(1000)]

    found = gather(some)

    assert 18 <= sum(map(len, found.gallery.values())) <= 20
    assert max(map(len, found.gallery.values())) <= max(1, 20 // classes)


def test_of_many_rows_two_thousand_photos_at_most_are_decoded_and_the_page_says_so() -> None:
    asked: list[str] = []
    some = [prediction(str(number), number % 3, 0.3 + (number % 700) / 1000) for number in range(5000)]

    def count(path: str) -> bytes:
        asked.append(path)
        return b"x" * 12_000  # more than there is room for

    made = written(some, judgement(some), count)

    assert len(asked) == len(set(asked)) == made.photos <= 2000
    assert len(made.page) < 20_000_000
    assert 0 < made.without_picture < 1000
    text = Parsed(made.page).text
    assert "1,800 of the 5,000 photos that were read: of each class all, or 600 photos drawn at random." in text
    assert "of these are without a picture" in text


def test_a_photo_that_is_gone_has_no_picture_and_its_row_stays() -> None:
    made = written(rows(), thumbnail=lambda path: b"" if "photo-00" in path else picture(path))

    assert made.without_picture == 1
    assert made.page.count(b"no picture") > written(rows()).page.count(b"no picture")


def test_rows_that_all_failed_make_a_page() -> None:
    text = Parsed(written([row for row in rows() if row.status != "ok"]).page).text

    assert "0 classes" in text
    assert "no such file" in text


def test_the_published_table_stands_beside_the_measured_one() -> None:
    found = judgement(rows())
    text = " ".join(Parsed(written(rows(), found).page).text.split())

    assert f"{found.scores.top1:.2f} ±" in text
    assert "published (<i>weights</i>)––77.29493.45" in text
    assert "0 % as given; 100 % if <otherwise>" in text


# Thumbnails.


def test_a_thumbnail_is_small_upright_and_bare(tmp_path: Path) -> None:
    big, exif = Image.new("RGB", (1600, 1200), "red"), Image.Exif()
    exif[0x0112] = 6
    big.save(tmp_path / "big.jpg", exif=exif, comment=b"where I live")

    data = thumbnail(str(tmp_path / "big.jpg"))

    (tmp_path / "small.jpg").write_bytes(data)
    with Image.open(tmp_path / "small.jpg") as small:
        assert (small.format, small.size) == ("JPEG", (SIDE * 3 // 4, SIDE))
        assert not small.getexif()
    assert b"where I live" not in data
    assert len(data) < 8000


def test_a_thumbnail_of_what_cannot_be_read_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "no.jpg").write_bytes(b"no picture")

    assert [thumbnail(str(tmp_path / name)) for name in ("no.jpg", "gone.jpg", ".")] == [b"", b"", b""]


# The command.


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows and report of four drawn pictures that demo has seen, and a name that is no UTF-8."""
    folder = tmp_path_factory.mktemp("report")
    samples_of = Path(__file__).parent.parent / "sample_images"
    for name in ("apple", "pear"):
        (folder / "photos" / name).mkdir(parents=True)
        for photo in sorted((samples_of / name).iterdir())[:2]:
            (folder / "photos" / name / photo.name).write_bytes(photo.read_bytes())
    odd = bytes(folder / "photos/pear") + b"/\xe9t\xe9.jpg"
    Path(odd.decode(errors="surrogateescape")).write_bytes(photo.read_bytes())
    out, page = folder / "preds.csv", folder / "run.html"
    code = code_of("classify", folder / "photos", "-w", "demo", "-o", out, "-j", 0, "-q", "--report", page)
    assert code == 0
    return folder


def pictures(page: Path) -> set[bytes]:
    """The pictures within a page."""
    return {
        base64.b64decode(found) for found in re.findall(rb'src="data:image/jpeg;base64,([^"]+)"', page.read_bytes())
    }


def without_date(page: Path) -> bytes:
    return re.sub(rb"Made on [0-9-]+", b"", page.read_bytes())


def test_a_run_and_the_command_make_the_same_report(classified: Path, inception: Inception) -> None:
    ended = inception("report", classified / "preds.csv", "--out", classified / "again.html")

    assert ended.code == 0, ended.err
    assert without_date(classified / "again.html") == without_date(classified / "run.html")
    assert f"report written to {classified / 'again.html'}" in " ".join(ended.err.split())
    assert "5 photos shown" in ended.err


def test_every_photo_has_its_picture_by_whatever_name(classified: Path) -> None:
    assert len(pictures(classified / "run.html")) == 4  # the fifth is a copy
    assert b"no picture</span><span" not in (classified / "run.html").read_bytes()
    assert rb"\xe9t\xe9.jpg" in (classified / "run.html").read_bytes()


def test_rows_are_judged_by_folders_and_by_files(classified: Path, inception: Inception, tmp_path: Path) -> None:
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        names = [(str(photo), photo.parent.name) for photo in (classified / "photos").rglob("*.jpg")]
        table = [(name, label) for name, label in names if name.isprintable()]
        csv.writer(file).writerows([("path", "label"), *table])
    for words in (("--val-dir", classified / "photos"), ("--labels", tmp_path / "labels.csv")):
        ended = inception("report", classified / "preds.csv", "-o", tmp_path / "judged.html", *words)

        assert ended.code == 0, ended.err
        text = Parsed((tmp_path / "judged.html").read_bytes()).text
        assert "Published and measured" in text
        assert "Surest mistakes" in text


def test_evaluate_makes_the_report_of_rows_that_exist(classified: Path, inception: Inception, tmp_path: Path) -> None:
    words = ("--predictions", classified / "preds.csv", "--val-dir", classified / "photos")

    ended = inception("evaluate", *words, "--report", tmp_path / "r.html", "--expect-top1", 101)

    assert ended.code == 5  # a gate that is not met is all the more a reason to look
    assert "Published and measured" in Parsed((tmp_path / "r.html").read_bytes()).text


@pytest.mark.slow
def test_evaluate_makes_the_report_of_its_temporary_rows(
    classified: Path, inception: Inception, tmp_path: Path
) -> None:
    page = tmp_path / "r.html"

    ended = inception("evaluate", "--val-dir", classified / "photos", "-w", "demo", "-j", 0, "--report", page)

    assert ended.code == 0, ended.err
    assert "Published and measured" in Parsed(page.read_bytes()).text
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["report", "ROWS"], 2, "--out FILE is missing"),
        (["report", "ROWS", "--out", "ROWS"], 2, "ends in .html"),
        (["report", "ROWS", "--out", "NOWHERE/r.html"], 1, "no such folder"),
        (["report", "NOWHERE.csv", "--out", "r.html"], 1, "NOWHERE.csv"),
        (["report", "ROWS", "--out", "r.html", "--labels", "NOWHERE.txt"], 1, "NOWHERE.txt"),
        (["classify", "PHOTOS", "-w", "demo", "--report", "r.html"], 2, "give --out FILE as well"),
        (["classify", "PHOTOS", "-w", "demo", "--report", "r.html", "--out", "-"], 2, "give --out FILE as well"),
        (["evaluate", "--val-dir", "PHOTOS", "-w", "demo", "--report", "r.csv"], 2, "ends in .html"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str],
    code: int,
    said: str,
    classified: Path,
    inception: Inception,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"ROWS": str(classified / "preds.csv"), "PHOTOS": str(classified / "photos")}

    ended = inception(*(places.get(word, word) for word in words))

    assert ended.code == code, ended.err
    assert len(ended.err.strip().splitlines()) == 1
    assert said in ended.err
    assert list(tmp_path.iterdir()) == []
