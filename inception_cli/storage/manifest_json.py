"""Read the JSON of a manifest into typed records. A damaged one is a ValueError that names the field."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

import msgspec

from inception_cli.errors import excerpt

#: Version of the manifest's fields; manifests of version 0.1 of the program have none.
FORMAT_VERSION = 1
#: A file with more bytes or values is no manifest: one of four networks with 100,000 classes has fewer.
MAX_BYTES, MAX_VALUES = 32_000_000, 1_000_000
#: Longest integer in digits: 64 bits.
_MAX_DIGITS = 19

_MSGSPEC = re.compile(r"(.*) - at `\$\.?(.*)`", re.DOTALL)
_KINDS = {str: "text", int: "an integer"}
_T = TypeVar("_T")


def read_record(data: bytes, record: type[_T]) -> tuple[dict[str, Any], _T]:
    """Return the fields in a JSON object, and the record that they make; ValueError names a field that is wrong.

    Fields of version 0.1 are renamed as they are today, and get `format_version` 0.
    """
    try:
        fields = _fields(data)
        for problem in _wrong_values(fields, ""):
            raise ValueError(problem)
        return fields, msgspec.convert(fields, record)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except msgspec.ValidationError as error:
        raise ValueError(_named(str(error))) from error


def require_complete(fields: Mapping[str, Any], written: Mapping[str, Any], name: str = "") -> None:
    """Raise ValueError unless every field of a manifest as it is written is in `fields`, too.

    Otherwise a field that was removed would silently take its default.
    """
    for key, value in written.items():
        path = f"{name}.{key}" if name else key
        if key not in fields:
            raise ValueError(f"{path} is missing")
        for position, (inner, other) in enumerate(zip(_items(value), _items(fields[key]), strict=False)):
            require_complete(other, inner, f"{path}.{position}" if isinstance(value, list | tuple) else path)
        if path in ("n", "command") and fields[key] != value:
            raise ValueError(f"{path} is {_shown(fields[key])}, not {value}{' as in counts' if path == 'n' else ''}")


def _items(value: Any) -> list[Mapping[str, Any]]:
    """Return the objects in a value: itself, or those in a list."""
    if isinstance(value, Mapping):
        return [value]
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list | tuple) else []


def _fields(data: bytes) -> dict[str, Any]:
    """Return the fields in a JSON object under today's names."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"it has more than {MAX_BYTES // 1_000_000} MB")
    if sum(map(data.count, (b",", b"[", b"{"))) > MAX_VALUES:  # before they take memory
        raise ValueError(f"it has more than {MAX_VALUES:,} values")
    # A number with too many digits becomes infinite, so that the error can name its field.
    fields: dict[str, Any] = json.loads(
        data, parse_int=lambda text: int(text) if len(text) <= _MAX_DIGITS else math.inf
    )
    if not isinstance(fields, dict):
        raise ValueError("it is not a JSON object")
    if "format_version" in fields:
        _require_version(fields["format_version"])
    elif isinstance(run := fields.get("run"), dict) and "loading" in run:
        fields = _from_0_1(fields)
    else:
        raise ValueError("format_version is missing")
    return fields


def _require_version(version: Any) -> None:
    if type(version) is not int or version < 1:
        raise ValueError(f"format_version is {_shown(version)}, not {FORMAT_VERSION}")
    if version > FORMAT_VERSION:
        raise ValueError(f"format_version {version}: it was written by a newer version of inception")


def _wrong_values(value: Any, name: str) -> Iterator[str]:
    """Yield the fields that are not finite, and values of mappings that msgspec's errors do not name."""
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{name} is not a finite number"
    elif isinstance(value, dict | list):
        kind = {"versions": str, "counts": int, "labels.sha256": str, "file.arrays": str}.get(name)
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            path = f"{name}.{key}" if name else str(key)
            if kind and type(inner) is not kind:
                yield f"{excerpt(path)} is {_shown(inner)}, which is not {_KINDS[kind]}"
            if isinstance(inner, float | dict | list):
                yield from _wrong_values(inner, path)


def _shown(value: Any) -> str:
    return excerpt(json.dumps(value))


def _named(message: str) -> str:
    """Return an error of msgspec with the name of the field at its beginning."""
    match = _MSGSPEC.fullmatch(message)
    text, path = (match[1], match[2]) if match else (message, "")
    return f"{path}: {excerpt(text, 120)}" if path else excerpt(text, 120)


def _from_0_1(old: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a manifest of version 0.1, which had other names, as they are today."""
    run = dict(old["run"])
    run["loader"] = run.pop("loading")
    for name in ("threads", "only", "plan"):
        if name not in run:
            raise ValueError(f"run.{name} is missing")
    threads = run.pop("threads")
    if isinstance(run["plan"], dict):
        run["plan"] = run["plan"] | {"threads": threads}
    run["only_classes"] = run.pop("only")
    fields: dict[str, Any] = {
        name: old[name] for name in ("inputs", "versions", "network", "counts", "images_per_s") if name in old
    }
    fields |= {"run": run, "directory": "", "reduced_batch": old.get("split_to"), "format_version": 0}
    if isinstance(labels := old.get("truth"), dict):
        fields["labels"] = {"label_format" if name == "label_form" else name: labels[name] for name in labels}
    return fields
