"""Keywords in XMP sidecars: read and merge the file of another program, and remove exactly what was added.

A keyword is in these lists:

    dc:subject                every keyword, flat
    lr:hierarchicalSubject    keywords with the ones above them: `animal|dog|husky`
    digiKam:TagsList          the same with slashes

Every sidecar gets the first one, and with ancestors the second. A program that finds one of the last two reads no other
list: darktable prefers the second to the first, digiKam the third. So a list that is there gets the keywords, too.
Keywords that were added are listed a second time in a namespace of our own, and only those are removed later.
A keyword of ours is an item of plain text. Items with qualifiers, structures or comments are another program's: they
are never changed or removed.
"""

from collections.abc import Iterable, Sequence

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
        around = [*self._root.itersiblings(preceding=True), *self._root.itersiblings()]
        others = {*self._root.attrib, *self._rdf.attrib} - {TOOLKIT}
        return (
            self._root.get(TOOLKIT, "").startswith(CREATOR)
            and [*self._root] == [self._rdf]
            and not (around or others)
            and all(map(_is_empty_description, self._rdf))
        )

    def set_keywords(self, keywords: Keywords) -> bool:
        """Replace the keywords that were added before by these; return whether that changes the sidecar."""
        before = etree.tostring(self._root, method="c14n")
        for name in (FLAT, HIERARCHY, DIGIKAM):
            self._set(name, keywords)
        return bool(etree.tostring(self._root, method="c14n") != before)

    def _set(self, name: tuple[str, str], keywords: Keywords) -> None:
        """Set the keywords in one list, and in our list of those that are ours."""
        own = ("inception", name[1])
        own_items = self._items(own)
        ours = [text for text in map(_text, own_items) if text]
        if not (ours or keywords):
            return
        items = self._items(name)
        others = [item for item in items if not (_is_plain(item) and _text(item) in ours)]
        kept = set(map(_text, others))
        added = [keyword for keyword in self._wanted(name, keywords, bool(others)) if keyword not in kept]
        there = set(map(_text, items))
        if added == ours and set(added) <= there:
            return
        self._remove(name, _last_of_each(items, set(ours) - set(added)))
        self._append(name, [keyword for keyword in added if keyword not in there])
        self._remove(own, own_items)
        self._append(own, added)

    def _wanted(self, name: tuple[str, str], keywords: Keywords, has_others: bool) -> list[str]:
        """Return the keywords for one list, each once."""
        if name == FLAT:
            return list(dict.fromkeys(path[-1] for path in keywords))
        separator = SEPARATORS[name]
        paths = [path for path in keywords if has_others or (name == HIERARCHY and len(path) > 1)]
        return list(dict.fromkeys(separator.join(each.replace(separator, " ") for each in path) for path in paths))

    def _items(self, name: tuple[str, str]) -> "list[etree._Element]":
        """Return the items of a list; NotMerged if it is not a list."""
        _, container = self._find(name)
        return [] if container is None else [child for child in container if isinstance(child.tag, str)]

    def _remove(self, name: tuple[str, str], items: "Iterable[etree._Element]") -> None:
        """Remove items of a list, and the list if nothing else is left in it."""
        found, container = self._find(name)
        if found is None or container is None:
            return
        for item in items:
            _remove(item)
        if len(found) == 1 and not (len(container) or found.attrib or container.attrib):
            _remove(found)

    def _append(self, name: tuple[str, str], keywords: Sequence[str]) -> None:
        """Append items to a list, which is created if necessary."""
        if not keywords:
            return
        found, container = self._find(name)
        if found is None:
            found = etree.SubElement(self._description(), _tag(name), nsmap={name[0]: PREFIXES[name[0]]})
        if container is None:
            container = etree.SubElement(found, CONTAINERS[0])
        for keyword in keywords:
            etree.SubElement(container, ITEM).text = keyword
        _indent(found, 4)
        _indent(container, 5)
        _end_line(found)

    def _find(self, name: tuple[str, str]) -> "tuple[etree._Element | None, etree._Element | None]":
        """Return the property of this name and the list in it: a bag, as XMP prescribes, or darktable's sequence.

        None for what is not there; NotMerged if the property has another value.
        """
        descriptions = self._rdf.findall(DESCRIPTION)
        found = next((each for part in descriptions for each in part.iterfind(_tag(name))), None)
        values = [] if found is None else [child for child in found if isinstance(child.tag, str)]
        lists = [value for value in values if value.tag in CONTAINERS]
        is_single = any(_tag(name) in each.attrib for each in descriptions)
        if found is not None:
            has_qualifier = any(attribute.startswith(f"{{{RDF}}}") for attribute in found.attrib)
            is_single = is_single or has_qualifier or bool((found.text or "").strip())
        if is_single or len(lists) != len(values) or len(lists) > 1:
            raise NotMerged(f"its {':'.join(name)} is not a list")
        return found, next(iter(lists), None)

    def _description(self) -> "etree._Element":
        """Return the element for a new list."""
        first = self._rdf.find(DESCRIPTION)
        return etree.SubElement(self._rdf, DESCRIPTION, {ABOUT: ""}) if first is None else first


def _tag(name: tuple[str, str]) -> str:
    return f"{{{PREFIXES[name[0]]}}}{name[1]}"


def _is_empty_description(node: "etree._Element") -> bool:
    """Return whether a node describes nothing."""
    return node.tag == DESCRIPTION and not len(node) and dict(node.attrib) in ({}, {ABOUT: ""})


def _last_of_each(items: "Sequence[etree._Element]", keywords: set[str]) -> "Iterable[etree._Element]":
    """Return the last item of plain text with each keyword: ours, since they are appended."""
    return {_text(item): item for item in items if _is_plain(item) and _text(item) in keywords}.values()


def _is_plain(item: "etree._Element") -> bool:
    """Return whether an item is nothing but a text."""
    return item.tag == ITEM and not (len(item) or item.attrib)


def _text(item: "etree._Element") -> str:
    """Return the text of an item; "" for one with a structure or a comment, whose text may be in pieces."""
    return "" if len(item) else (item.text or "").strip()


def _indent(element: "etree._Element", level: int) -> None:
    """Put the children of an element on lines of their own; white space within them is theirs, and stays."""
    line = "\n" + " " * level
    if not (element.text or "").strip():
        element.text = line
    for child in element:
        if not (child.tail or "").strip():
            child.tail = line[:-1] if child is element[-1] else line


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
