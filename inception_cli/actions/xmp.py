"""Keywords in XMP sidecars: read and merge the file of another program, and remove exactly what was added.

A keyword is in these lists:

    dc:subject                every keyword, flat
    lr:hierarchicalSubject    keywords with the ones above them: `animal|dog|husky`
    digiKam:TagsList          the same with slashes

Every sidecar gets the first one, and with ancestors the second. A program that finds one of the last two reads no other
list: darktable prefers the second to the first, digiKam the third. So a list that is there gets the keywords, too.
Keywords that were added are listed a second time in a namespace of our own, and only those are removed later.
"""

from collections.abc import Sequence

from lxml import etree

from inception_cli import __version__

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
META = "adobe:ns:meta/"
OWN = "urn:inception:keywords:1.0/"
PREFIXES = {
    "dc": "http://purl.org/dc/elements/1.1/",
    "lr": "http://ns.adobe.com/lightroom/1.0/",
    "digiKam": "http://www.digikam.org/ns/1.0/",
    "inception": OWN,
}
#: The lists of keywords: prefix and name, and the separator of a path of keywords.
FLAT, HIERARCHY, DIGIKAM = ("dc", "subject"), ("lr", "hierarchicalSubject"), ("digiKam", "TagsList")
SEPARATORS = {HIERARCHY: "|", DIGIKAM: "/"}
CONTAINERS = tuple(f"{{{RDF}}}{kind}" for kind in ("Bag", "Seq", "Alt"))
ITEM, DESCRIPTION, ABOUT = f"{{{RDF}}}li", f"{{{RDF}}}Description", f"{{{RDF}}}about"
DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>'
TOOLKIT = f"{{{META}}}xmptk"
CREATOR = "inception"
#: Largest sidecar that is read, in bytes; darktable's with many masks have some hundred kB.
MAX_BYTES = 50_000_000

Keywords = Sequence[Sequence[str]]  # each as a path: the keyword, and before it the ones above it


class NotMerged(ValueError):
    """A sidecar that cannot be merged; the text is the reason."""


class Sidecar:
    """An XMP document."""

    def __init__(self, root: etree._Element, declaration: bool = True) -> None:
        self._root, self._declaration = root, declaration
        rdf = root if root.tag == f"{{{RDF}}}RDF" else root.find(f"{{{RDF}}}RDF")
        if rdf is None:
            raise NotMerged("it is not XMP")
        self._rdf = rdf

    @classmethod
    def new(cls) -> "Sidecar":
        """Return an empty sidecar."""
        root = etree.Element(f"{{{META}}}xmpmeta", {TOOLKIT: f"{CREATOR} {__version__}"}, nsmap={"x": META})
        rdf = etree.SubElement(root, f"{{{RDF}}}RDF", nsmap={"rdf": RDF})
        description = etree.SubElement(rdf, DESCRIPTION, {ABOUT: ""})
        etree.indent(root, " ")
        description.text = "\n  "
        return cls(root)

    @classmethod
    def parse(cls, data: bytes) -> "Sidecar":
        """Return the sidecar in the bytes of a file; NotMerged for what is not XMP.

        Entities are not expanded, and nothing is loaded.
        """
        parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
        try:
            root = etree.fromstring(data, parser)
        except (etree.XMLSyntaxError, ValueError) as error:
            reason = str(getattr(error, "msg", error))  # without the name of the file, which lxml does not know
            raise NotMerged(f"it is not XML ({' '.join(reason.split())[:100]})") from error
        if root.getroottree().docinfo.doctype:
            raise NotMerged("it has a document type, which XMP has not")
        return cls(root, data.lstrip(b"\xef\xbb\xbf").startswith(b"<?xml"))

    def encode(self) -> bytes:
        """Return the bytes of a file, in UTF-8; comments and processing instructions around the document stay."""
        before = reversed([*self._root.itersiblings(preceding=True)])
        nodes = [*before, self._root, *self._root.itersiblings()]
        lines = [etree.tostring(node, encoding="unicode", with_tail=False) for node in nodes]
        return "\n".join([*[DECLARATION][: self._declaration], *lines, ""]).encode()

    @property
    def is_ours(self) -> bool:
        """Whether this program has made the sidecar, and nothing but its own is left in it."""
        descriptions = self._rdf.findall(DESCRIPTION)
        others = [name for each in descriptions for name in each.attrib if name != ABOUT]
        return self._root.get(TOOLKIT, "").startswith(CREATOR) and not others and not any(map(len, descriptions))

    def set_keywords(self, keywords: Keywords) -> bool:
        """Replace the keywords that were added before by these; return whether that changes the sidecar."""
        before = etree.tostring(self._root, method="c14n")
        for name in (FLAT, HIERARCHY, DIGIKAM):
            self._set(name, keywords)
        return bool(etree.tostring(self._root, method="c14n") != before)

    def _set(self, name: tuple[str, str], keywords: Keywords) -> None:
        """Set the keywords in one list, and in our list of those that are ours."""
        ours, there = self._read(("inception", name[1])), self._read(name)
        others = [keyword for keyword in there if keyword not in ours]
        wanted = self._wanted(name, keywords, bool(others))
        added = [keyword for keyword in wanted if keyword not in others]
        if added == ours and set(added) <= set(there):
            return
        removed = set(ours) - set(added)
        self._write(name, [keyword for keyword in there if keyword not in removed], added)
        self._write(("inception", name[1]), [], added)

    def _wanted(self, name: tuple[str, str], keywords: Keywords, has_others: bool) -> list[str]:
        """Return the keywords for one list, each once."""
        if name == FLAT:
            return list(dict.fromkeys(path[-1] for path in keywords))
        separator = SEPARATORS[name]
        paths = [path for path in keywords if has_others or (name == HIERARCHY and len(path) > 1)]
        return list(dict.fromkeys(separator.join(each.replace(separator, " ") for each in path) for path in paths))

    def _read(self, name: tuple[str, str]) -> list[str]:
        """Return the keywords in a list; NotMerged if it is not a list."""
        found = self._find(name)
        if found is None:
            return []
        container = _container(found)
        if container is None and (found.text or "").strip():
            raise NotMerged(f"its {':'.join(name)} is not a list")
        return [] if container is None else [text for text in map(_text, container.iterfind(ITEM)) if text]

    def _write(self, name: tuple[str, str], kept: Sequence[str], added: Sequence[str]) -> None:
        """Let a list hold the items with the kept keywords, as they are, and the added ones; none: no list."""
        found = self._find(name)
        if found is None:
            if not added:
                return
            found = etree.SubElement(self._description(), _tag(name), nsmap={name[0]: PREFIXES[name[0]]})
        container = _container(found)
        if container is None:
            container = etree.SubElement(found, CONTAINERS[0])
        for item in container.findall(ITEM):
            if _text(item) not in kept:
                container.remove(item)
        for keyword in added:
            if keyword not in kept:
                etree.SubElement(container, ITEM).text = keyword
        if not len(container):
            _remove(found)
            return
        etree.indent(found, " ", level=3)
        _end_line(found)

    def _find(self, name: tuple[str, str]) -> "etree._Element | None":
        return next((each for part in self._rdf.iterfind(DESCRIPTION) for each in part.iterfind(_tag(name))), None)

    def _description(self) -> "etree._Element":
        """Return the element for a new list."""
        first = self._rdf.find(DESCRIPTION)
        return etree.SubElement(self._rdf, DESCRIPTION, {ABOUT: ""}) if first is None else first


def _tag(name: tuple[str, str]) -> str:
    return f"{{{PREFIXES[name[0]]}}}{name[1]}"


def _container(found: "etree._Element") -> "etree._Element | None":
    """Return the list in a property: a bag, as XMP prescribes, or the sequence that darktable writes."""
    return next((child for child in found if child.tag in CONTAINERS), None)


def _text(item: "etree._Element") -> str:
    return (item.text or "").strip()


def _end_line(added: "etree._Element") -> None:
    """Put a property that was added on lines of its own, with the usual indentation."""
    if added.tail is None:
        _set_space_before(added, "\n   ")
        added.tail = "\n  "


def _remove(element: "etree._Element") -> None:
    """Remove an element together with its line."""
    _set_space_before(element, element.tail)
    element.getparent().remove(element)


def _set_space_before(element: "etree._Element", text: str | None) -> None:
    previous = element.getprevious()
    if previous is None:
        element.getparent().text = text
    else:
        previous.tail = text
