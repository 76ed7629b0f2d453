"""`inception tag`: labels as keywords in XMP sidecars, merged with those of other programs, and removed again.

The sidecars of darktable and digiKam are made by hand in the form in which these programs write them. Results are read
by another parser than the one that writes them.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from limits import file_size_limit
from running import Inception

from inception_cli.actions.tag import keywords_of, tag
from inception_cli.actions.xmp import NotMerged, Sidecar
from inception_cli.predictions.decision import Decision
from inception_cli.predictions.formats import csv_header, read_predictions, to_csv
from inception_cli.predictions.prediction import Prediction

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "inception": "urn:inception:keywords:1.0/",
}
LISTS = ("dc:subject", "lr:hierarchicalSubject", "digiKam:TagsList")
DARKTABLE = """<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
   exif:DateTimeOriginal="2024:05:01 10:11:12.000"
   xmp:Rating="3"
   xmpMM:DerivedFrom="a.jpg"
   darktable:xmp_version="5"
   darktable:history_end="2"
   darktable:iop_order_version="4">
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="exposure"
      darktable:enabled="1"
      darktable:params="gz02eJxjYGiwZ4AAAAZ8AYA="
      darktable:multi_name=""/>
     <rdf:li
      darktable:num="1"
      darktable:operation="crop"/>
    </rdf:Seq>
   </darktable:history>
   <darktable:masks_history>
    <rdf:Seq/>
   </darktable:masks_history>
   <dc:creator>
    <rdf:Seq>
     <rdf:li>Ada &amp; Bob</rdf:li>
    </rdf:Seq>
   </dc:creator>
   <dc:subject>
    <rdf:Seq>
     <rdf:li>garden</rdf:li>
     <rdf:li>fruit</rdf:li>
    </rdf:Seq>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Seq>
     <rdf:li>places|garden</rdf:li>
     <rdf:li>fruit</rdf:li>
    </rdf:Seq>
   </lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""
DIGIKAM = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<!-- a comment -->
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="uuid:faf5bdd5-ba3d-11da-ad31-d33d75182f1b"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmp:Rating="4"/>
  <rdf:Description rdf:about="uuid:faf5bdd5-ba3d-11da-ad31-d33d75182f1b"
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
   digiKam:PickLabel="0">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>People/Zoë</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <MicrosoftPhoto:LastKeywordXMP>
    <rdf:Bag>
     <rdf:li>People/Zoë</rdf:li>
    </rdf:Bag>
   </MicrosoftPhoto:LastKeywordXMP>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>People|Zoë</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <dc:title><rdf:Alt><rdf:li xml:lang="x-default">Zoë eats</rdf:li></rdf:Alt></dc:title>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Zoë</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <mwg-rs:Regions rdf:parseType="Resource">
    <mwg-rs:RegionList>
     <rdf:Bag><rdf:li rdf:parseType="Resource"><mwg-rs:Name>Zoë</mwg-rs:Name></rdf:li></rdf:Bag>
    </mwg-rs:RegionList>
   </mwg-rs:Regions>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Predictions for a.jpg, b.jpg (apples) and a damaged c.jpg, which are in the same folder."""
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_bytes(b"\xff\xd8 photo " + name.encode())
    return predictions(tmp_path, {"a.jpg": "apple", "b.jpg": "apple"}, "c.jpg,corrupt,,,,damaged")


def predictions(folder: Path, labels: dict[str, str], *others: str) -> Path:
    """Write the file of a run in this folder."""
    lines = ["path,status,top1_index,top1_label,top1_score,error"]
    lines += [f"{folder}/{name},ok,0,{label},0.9," for name, label in labels.items()]
    lines += [f"{folder}/{other}" for other in others]
    file = folder / "preds.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def keywords(file: Path) -> dict[str, list[str]]:
    """Return the keywords in the lists of a sidecar, and in our own lists."""
    root = ET.fromstring(file.read_bytes())
    names = [*LISTS, *(f"inception:{name.partition(':')[2]}" for name in LISTS)]
    found = {name: root.findall(f".//{name}/*/rdf:li", NAMESPACES) for name in names}
    return {name: [item.text or "" for item in items] for name, items in found.items() if items}


def everything_else(data: bytes) -> list[tuple[str, list[tuple[str, str]], str]]:
    """Return tag, attributes and text of each element that is in no list of keywords, in order."""
    root = ET.fromstring(data)
    lists = {element for name in LISTS for element in root.iterfind(f".//{name}", NAMESPACES)}
    lists |= {element for element in root.iter() if element.tag.startswith(f"{{{NAMESPACES['inception']}}}")}
    inside = {element for each in lists for element in each.iter()}
    return [
        (each.tag, sorted(each.attrib.items()), (each.text or "").strip()) for each in root.iter() if each not in inside
    ]


def canonical(data: bytes | str) -> str:
    return ET.canonicalize(data.decode() if isinstance(data, bytes) else data, strip_text=True)


# Sidecars


def test_a_new_sidecar_holds_the_label(inception: Inception, rows: Path, tmp_path: Path) -> None:
    before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.glob("*.jpg")}

    ended = inception("tag", rows)

    assert (ended.code, ended.out) == (0, "")
    assert "XMP sidecars: 2 written\n1 row without a prediction: 1 corrupt\n" in ended.err
    assert f"to undo it: inception tag --undo {rows}\n" in ended.err
    assert sorted(file.name for file in tmp_path.glob("*.xmp")) == ["a.jpg.xmp", "b.jpg.xmp"]
    assert keywords(tmp_path / "a.jpg.xmp") == {"dc:subject": ["apple"], "inception:subject": ["apple"]}
    assert b"DigitalSourceType" not in (tmp_path / "a.jpg.xmp").read_bytes()
    assert {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in before} == before

    ended = inception("tag", "--undo", rows)

    assert ended.code == 0
    assert "XMP sidecars: 2 removed, 1 unchanged\n" in ended.err
    assert [*tmp_path.glob("*.xmp")] == []


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (
            DARKTABLE,
            {
                "dc:subject": ["garden", "fruit", "apple"],
                "lr:hierarchicalSubject": ["places|garden", "fruit", "apple"],
                "inception:subject": ["apple"],
                "inception:hierarchicalSubject": ["apple"],
            },
        ),
        (
            DIGIKAM,
            {
                "dc:subject": ["Zoë", "apple"],
                "lr:hierarchicalSubject": ["People|Zoë", "apple"],
                "digiKam:TagsList": ["People/Zoë", "apple"],
                "inception:subject": ["apple"],
                "inception:hierarchicalSubject": ["apple"],
                "inception:TagsList": ["apple"],
            },
        ),
    ],
    ids=["darktable", "digikam"],
)
def test_a_sidecar_of_another_program_keeps_everything(
    inception: Inception, rows: Path, tmp_path: Path, written: str, expected: dict[str, list[str]]
) -> None:
    file = tmp_path / "a.jpg.xmp"
    file.write_text(written)
    file.chmod(0o640)

    assert inception("tag", rows).code == 0

    tagged = file.read_bytes()
    assert keywords(file) == expected
    assert everything_else(tagged) == everything_else(written.encode())
    assert len(everything_else(tagged)) >= 12
    for kept in ("xmlns:lr=", "<?xpacket begin", "<!-- a comment -->", "<?xpacket end=", "<?xml version"):
        assert (kept in tagged.decode()) == (kept in written)
    assert "ns0:" not in tagged.decode()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640

    before = file.stat()
    assert "2 unchanged" in inception("tag", rows).err
    assert (file.read_bytes(), file.stat()[1:], file.stat().st_mtime_ns) == (tagged, before[1:], before.st_mtime_ns)

    assert inception("tag", "--undo", rows).code == 0
    assert canonical(file.read_bytes()) == canonical(written)


#: Items that other programs may write and `tag` does not understand; {} is a keyword.
NOT_UNDERSTOOD = {
    "structure": '<rdf:li rdf:parseType="Resource"><rdf:value>{}</rdf:value><dc:type>name</dc:type></rdf:li>',
    "description": "<rdf:li><rdf:Description><rdf:value>{}</rdf:value></rdf:Description></rdf:li>",
    "comment within": "<rdf:li><!-- who -->{}</rdf:li>",
    "comment after": "<rdf:li>{}<!-- who --></rdf:li>",
    "language": '<rdf:li xml:lang="de">{}</rdf:li>',
    "resource": '<rdf:li rdf:resource="urn:{}"/>',
    "empty": "<rdf:li/>",
    "comment beside": "<!-- {} --><rdf:li>other</rdf:li>",
    "numbered": "<rdf:_1>{}</rdf:_1>",
}


def with_list(name: str, items: str, qualifier: str = "", kind: str = "Bag") -> str:
    """Return a sidecar with one list of keywords."""
    return (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
        + " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in NAMESPACES.items() if prefix not in ("x", "inception"))
        + f'><rdf:Description rdf:about=""><{name}{qualifier}><rdf:{kind}>{items}</rdf:{kind}></{name}>'
        "</rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def exact(data: bytes | str) -> str:
    """Return XML in its canonical form; white space between elements and comments does not count."""
    text = data.decode() if isinstance(data, bytes) else data
    return squeezed(ET.canonicalize(text, with_comments=True)).strip()


def squeezed(text: str) -> str:
    return re.sub(r">\s+<", "><", text)


@pytest.mark.parametrize("keyword", ["Anna", "apple"])
@pytest.mark.parametrize("item", NOT_UNDERSTOOD.values(), ids=NOT_UNDERSTOOD)
@pytest.mark.parametrize("name", LISTS)
def test_items_that_are_not_understood_stay_as_they_are(name: str, item: str, keyword: str) -> None:
    separator = {"dc:subject": "", "lr:hierarchicalSubject": "fruit|", "digiKam:TagsList": "fruit/"}[name]
    item = item.format(separator + keyword)
    written = with_list(name, item)
    sidecar = Sidecar.parse(written.encode())

    assert sidecar.set_keywords([["fruit", "apple"]])
    tagged = sidecar.encode()
    assert item in squeezed(tagged.decode())
    texts = [each.text for each in ET.fromstring(tagged).iterfind(f".//{name}/*/*", NAMESPACES)]
    assert separator + "apple" in texts

    assert not Sidecar.parse(tagged).set_keywords([["fruit", "apple"]])
    changed = Sidecar.parse(tagged)
    assert changed.set_keywords([["fruit", "pear"]])
    assert item in squeezed(changed.encode().decode())
    for each in (tagged, changed.encode()):
        undone = Sidecar.parse(each)
        assert undone.set_keywords([])
        assert exact(undone.encode()) == exact(written)


@pytest.mark.parametrize(
    "written",
    [
        with_list("dc:subject", "", ' xml:lang="en"'),
        with_list("dc:subject", "<!-- none yet -->"),
        with_list("dc:subject", "<rdf:li>pear</rdf:li><rdf:li>pear</rdf:li>", kind="Seq"),
        with_list("dc:subject", "").replace("<rdf:Bag>", '<!-- none yet --><rdf:Bag xml:lang="en">'),
    ],
)
def test_a_list_with_anything_of_another_program_stays(written: str) -> None:
    sidecar = Sidecar.parse(written.encode())

    assert sidecar.set_keywords([["apple"]])
    assert sidecar.set_keywords([])

    assert exact(sidecar.encode()) == exact(written)


def test_a_keyword_that_another_program_has_added_too_stays_once() -> None:
    sidecar = Sidecar.parse(with_list("dc:subject", "<rdf:li>pear</rdf:li>").encode())
    sidecar.set_keywords([["apple"]])
    twice = sidecar.encode().replace(b"<rdf:li>pear<", b'<rdf:li>apple</rdf:li><rdf:li xml:lang="en">apple<')

    again = Sidecar.parse(twice)
    again.set_keywords([])

    kept = '<rdf:li>apple</rdf:li><rdf:li xml:lang="en">apple</rdf:li>'
    assert exact(again.encode()) == exact(with_list("dc:subject", kept))


@pytest.mark.parametrize(
    "value",
    [
        '<dc:subject rdf:resource="urn:pear"/>',
        '<dc:subject rdf:parseType="Resource"><rdf:value><rdf:Bag><rdf:li>pear</rdf:li></rdf:Bag></rdf:value>'
        "<dc:type>fruit</dc:type></dc:subject>",
        "<dc:subject><rdf:Description><rdf:value>pear</rdf:value></rdf:Description></dc:subject>",
        "<dc:subject><rdf:Bag/><rdf:Seq/></dc:subject>",
        '<rdf:Description dc:subject="pear"/>',
    ],
)
def test_a_property_that_is_not_a_list_is_left_as_it_is(value: str) -> None:
    text = with_list("dc:type", "")
    outside = "</rdf:RDF>" if value.startswith("<rdf") else "</rdf:Description>"
    sidecar = Sidecar.parse(text.replace(outside, value + outside).encode())
    written = sidecar.encode()

    with pytest.raises(NotMerged, match="its dc:subject is not a list"):
        sidecar.set_keywords([["apple"]])

    assert not sidecar.set_keywords([])  # an undo finds nothing of ours
    assert sidecar.encode() == written


@pytest.mark.parametrize(
    ("place", "addition"),
    [
        ("</rdf:RDF>", "<!-- mine -->"),
        ("</rdf:RDF>", '<rdf:Bag rdf:ID="mine"/>'),
        ("</x:xmpmeta>", "<!-- mine -->"),
        ("<x:xmpmeta", "<!-- mine -->"),
        ("</rdf:Description>", "<!-- mine -->"),
    ],
)
def test_a_sidecar_of_ours_to_which_something_was_added_is_not_deleted(
    inception: Inception, rows: Path, tmp_path: Path, place: str, addition: str
) -> None:
    inception("tag", rows)
    file = tmp_path / "a.jpg.xmp"
    file.write_text(file.read_text().replace(place, addition + place))

    assert "1 written, 1 removed" in inception("tag", "--undo", rows).err.replace("sidecars: ", "")

    assert addition in file.read_text()
    assert keywords(file) == {}


def test_a_keyword_that_was_there_before_stays(inception: Inception, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg.xmp"
    file.write_text(DARKTABLE.replace("garden", "apple"))

    inception("tag", rows)

    assert keywords(file)["dc:subject"] == ["apple", "fruit"]
    assert "inception:subject" not in keywords(file)
    inception("tag", "--undo", rows)
    assert canonical(file.read_bytes()) == canonical(DARKTABLE.replace("garden", "apple"))


def test_a_later_run_replaces_the_keyword_of_an_earlier_one(inception: Inception, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "a.jpg.xmp").write_text(DARKTABLE)
    inception("tag", rows)

    inception("tag", predictions(tmp_path, {"a.jpg": "fruit", "b.jpg": "pear"}))

    assert keywords(tmp_path / "a.jpg.xmp") == {
        "dc:subject": ["garden", "fruit"],  # its own fruit: nothing is added
        "lr:hierarchicalSubject": ["places|garden", "fruit"],
    }
    assert keywords(tmp_path / "b.jpg.xmp") == {"dc:subject": ["pear"], "inception:subject": ["pear"]}


def test_keywords_are_removed_from_a_sidecar_that_another_program_has_written_again(
    inception: Inception, rows: Path, tmp_path: Path
) -> None:
    """With another prefix, another kind of list, and a keyword of the user's."""
    file = tmp_path / "a.jpg.xmp"
    inception("tag", rows)
    text = file.read_text().replace("<inception:", "<ns1:").replace("</inception:", "</ns1:")
    text = text.replace("xmlns:inception", "xmlns:ns1")
    text = text.replace("rdf:Bag", "rdf:Seq").replace("<rdf:li>apple", "<rdf:li>mine</rdf:li><rdf:li> apple ", 1)
    file.write_text(text.replace("xmptk=", 'xmptk="XMP Core" x:was='))

    inception("tag", "--undo", rows)

    assert keywords(file) == {"dc:subject": ["mine"]}


def test_ancestors_are_written_as_a_path() -> None:
    sidecar = Sidecar.parse(DIGIKAM.encode())

    assert sidecar.set_keywords([["animal", "dog/wolf", "husky"]])

    text = sidecar.encode().decode()
    assert "<rdf:li>animal|dog/wolf|husky</rdf:li>" in text
    assert "<rdf:li>animal/dog wolf/husky</rdf:li>" in text
    assert text.count("<rdf:li>husky</rdf:li>") == 2  # dc:subject, and our own list
    assert not sidecar.set_keywords([["animal", "dog/wolf", "husky"]])
    assert sidecar.set_keywords([["husky"]])
    assert "<rdf:li>animal|" not in sidecar.encode().decode()
    assert sidecar.set_keywords([])
    assert canonical(sidecar.encode()) == canonical(DIGIKAM)


def test_a_new_sidecar_with_ancestors_has_both_lists(tmp_path: Path) -> None:
    sidecar = Sidecar.new()
    sidecar.set_keywords([["animal", "dog"]])
    (tmp_path / "a.xmp").write_bytes(sidecar.encode())

    assert keywords(tmp_path / "a.xmp") == {
        "dc:subject": ["dog"],
        "lr:hierarchicalSubject": ["animal|dog"],
        "inception:subject": ["dog"],
        "inception:hierarchicalSubject": ["animal|dog"],
    }


def test_the_label_is_the_decision_of_a_row_or_else_its_best_class() -> None:
    def row(decision: Decision | None) -> Prediction:
        return Prediction("a.jpg", "ok", (1,), ("husky",), (0.4,), decision=decision)

    def ancestors(prediction: Prediction) -> list[str]:
        return ["animal"] if prediction.decision and prediction.decision.label == "dog" else []

    assert keywords_of(row(None), ancestors) == [["husky"]]
    assert keywords_of(row(Decision("dog", 0.9, "rollup")), ancestors) == [["animal", "dog"]]
    assert keywords_of(row(Decision("unknown", 0.4, "low_score")), ancestors) == []


@pytest.mark.parametrize(
    ("index", "label", "above"),
    [
        (968, "cup", ["food or drink|drink|alcoholic drink|cup"]),  # ImageNet's, which means a punch
        (0, "cup", []),
        (968, "teapot", []),
    ],
)
def test_without_a_manifest_only_the_classes_of_imagenet_have_ancestors(
    inception: Inception, tmp_path: Path, index: int, label: str, above: list[str]
) -> None:
    photo = tmp_path / "a.jpg"
    photo.touch()
    decided = Prediction(str(photo), "ok", (index,), (label,), (0.9,), decision=Decision(label, 0.9, "top1"))
    file = tmp_path / "preds.csv"
    file.write_bytes(csv_header(1, decided=True) + to_csv([decided], 1, True))

    assert inception("tag", file).code == 0

    assert keywords(tmp_path / "a.jpg.xmp").get("lr:hierarchicalSubject", []) == above
    assert keywords(tmp_path / "a.jpg.xmp")["dc:subject"] == [label]


def test_a_photo_that_becomes_unknown_loses_its_keyword(rows: Path, tmp_path: Path) -> None:
    tag(read_predictions(rows), tmp_path)
    decided = Prediction("a.jpg", "ok", (1,), ("apple",), (0.4,), decision=Decision("unknown", 0.4, "low_score"))

    result = tag([decided], tmp_path)

    assert (result.removed, result.written) == (1, 0)
    assert not (tmp_path / "a.jpg.xmp").exists()


@pytest.mark.parametrize("label", ["<b>&amp;", "Granny Smith (apple)", "  spaces  ", "grün 🍏", 'a "b"', "\x1b[31mred"])
def test_any_label_is_written(tmp_path: Path, label: str) -> None:
    (prediction,) = [Prediction("a.jpg", "ok", (1,), (label,), (0.4,))]
    sidecar = Sidecar.new()

    sidecar.set_keywords(keywords_of(prediction, lambda label: ()))

    (tmp_path / "a.xmp").write_bytes(sidecar.encode())
    assert keywords(tmp_path / "a.xmp")["dc:subject"] == [label.strip().replace("\x1b", "\\x1b")]
    assert not sidecar.set_keywords(keywords_of(prediction, lambda label: ()))


def test_a_sidecar_in_utf_16_is_written_in_utf_8(inception: Inception, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg.xmp"
    file.write_bytes(DIGIKAM.replace("\ufeff", "").encode("utf-16"))

    inception("tag", rows)

    assert file.read_bytes().startswith(b"<?xpacket")
    assert keywords(file)["dc:subject"] == ["Zoë", "apple"]


def exiftool(file: Path) -> dict[str, Any]:
    """Return what exiftool shows of a sidecar, with its warnings."""
    command = ["exiftool", "-json", "-validate", "-warning", "-a", "-Subject", "-Rating", str(file)]
    shown: list[dict[str, Any]] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return shown[0]


@pytest.mark.skipif(not shutil.which("exiftool"), reason="needs exiftool (Debian: libimage-exiftool-perl)")
@pytest.mark.parametrize("written", ["", DARKTABLE, DIGIKAM], ids=["new", "darktable", "digikam"])
def test_exiftool_shows_the_keywords(rows: Path, tmp_path: Path, written: str) -> None:
    file = tmp_path / "a.jpg.xmp"
    if written:
        file.write_text(written)
    before = exiftool(file) if written else {"Validate": "OK"}
    tag(read_predictions(rows), tmp_path)

    shown = exiftool(file)

    subject = shown["Subject"]
    assert (subject if isinstance(subject, list) else [subject])[-1] == "apple"
    assert shown.get("Rating") == {"": None, DARKTABLE: 3, DIGIKAM: 4}[written]
    assert (shown["Validate"], shown.get("Warning")) == (before["Validate"], before.get("Warning"))


# Files


def test_relative_paths_belong_to_the_folder_of_the_run(
    inception: Inception, stub: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos / "a", tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    raw = os.fsdecode(b"a/\xff\xe9.jpg")
    Path("a/00.jpg").rename(raw)
    inception("classify", "a", "-w", stub, "-j", 0, "-q", "-o", "p.csv")
    monkeypatch.chdir("/")

    assert inception("tag", tmp_path / "p.csv").code == 0

    assert len([*(tmp_path / "a").glob("*.jpg.xmp")]) == 8
    assert (tmp_path / f"{raw}.xmp").exists()


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">{}]><x>&j;</x>'.format(
    "".join(f'<!ENTITY {name} "{f"&{before};" * 10}">' for before, name in zip("abcdefghi", "bcdefghij", strict=True))
)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "it is not XML"),
        ("<x:xmpmeta", "it is not XML"),
        (DARKTABLE[:900], "it is not XML"),
        ("<svg/>", "it is not XMP"),
        (BOMB, "it "),
        (f'<!DOCTYPE x [<!ENTITY e SYSTEM "/etc/hostname">]>{DARKTABLE[39:]}', "it has a document type"),
        (DARKTABLE.replace("<rdf:Seq>\n     <rdf:li>garden", "garden<rdf:Set>\n     <rdf:li>"), "it is not XML"),
        ("<x:xmpmeta xmlns:x='adobe:ns:meta/'><r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
         "<r:Description><s:subject xmlns:s='http://purl.org/dc/elements/1.1/'>pear</s:subject></r:Description>"
         "</r:RDF></x:xmpmeta>", "its dc:subject is not a list"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_sidecar_is_left_as_it_is_with_a_line(
    inception: Inception, rows: Path, tmp_path: Path, content: str, reason: str
) -> None:
    file = tmp_path / "a.jpg.xmp"
    file.write_text(content)

    ended = inception("tag", rows, "-q")

    assert ended.code == 3
    assert ended.err.startswith(f"left as it is: {tmp_path}/a.jpg.xmp: {reason}")
    assert ended.err.count("\n") == 1
    assert len(ended.err) < 300
    assert "<string>" not in ended.err
    assert file.read_text() == content
    assert keywords(tmp_path / "b.jpg.xmp")["dc:subject"] == ["apple"]


def test_photos_that_are_gone_and_files_that_are_not_regular_are_left(
    inception: Inception, rows: Path, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").unlink()
    os.mkfifo(tmp_path / "b.jpg.xmp")
    long = "d" * 249 + ".jpg"
    (tmp_path / long).touch()
    rows = predictions(tmp_path, {"a.jpg": "apple", "b.jpg": "apple", long: "apple"})

    ended = inception("tag", rows, "-q")

    assert ended.code == 3
    assert ended.err.splitlines() == [
        f"left as it is: {tmp_path}/a.jpg: no such file or directory",
        f"left as it is: {tmp_path}/b.jpg.xmp: it is not a regular file",
        f"left as it is: {tmp_path}/{long}: file name too long",
    ]
    assert sorted(file.name for file in tmp_path.glob("*.xmp")) == ["b.jpg.xmp"]


def test_a_link_to_a_sidecar_stays_a_link(inception: Inception, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/a.xmp").write_text(DARKTABLE)
    (tmp_path / "a.jpg.xmp").symlink_to("kept/a.xmp")

    inception("tag", rows)

    assert (tmp_path / "a.jpg.xmp").is_symlink()
    assert keywords(tmp_path / "kept/a.xmp")["dc:subject"] == ["garden", "fruit", "apple"]


def test_a_full_disk_is_one_line_and_leaves_the_sidecars(inception: Inception, rows: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.jpg.xmp"
    file.write_text(DARKTABLE)
    before = sorted(tmp_path.iterdir())

    with file_size_limit(1000):
        ended = inception("tag", rows)

    assert ended.code == 1
    assert ended.err.startswith(f"error: {file}: file too large; ")
    assert ended.err.count("\n") == 1
    assert (file.read_text(), sorted(tmp_path.iterdir())) == (DARKTABLE, before)


def test_what_a_killed_run_has_left_is_removed(inception: Inception, rows: Path, tmp_path: Path) -> None:
    (tmp_path / ".a.jpg.xmp.0123abcd.tmp").write_text("<x:xmp")
    (tmp_path / ".mine.tmp").touch()

    inception("tag", rows)

    assert [file.name for file in tmp_path.glob(".*")] == [".mine.tmp"]
