"""Text that a person writes, as plain data: YAML 1.2 or JSON, every key once, of bounded size and depth.

Scalars are those of YAML 1.2's core schema: `0512` is 512, `0o17` 15, `1e3` a number; `yes`, `off`, `1:30` and
dates are strings. Merge keys (`<<`) are YAML 1.1 and refused. Source: https://yaml.org/spec/1.2.2/#103-core-schema
"""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from moe.errors import InputError, shortened

MOST_BYTES = 10 * 10**6
DEEPEST = 100
"""Groups inside of each other; the deepest file of this project has some ten."""
MOST_VALUES = 2_000_000
"""Also when every alias of YAML is taken for what it stands for."""

_NULL, _BOOL, _INT, _FLOAT, _STR, _SEQ, _MAP = (
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
)
_NUMBERS = {
    _INT: re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"),
    _FLOAT: re.compile(
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
}
_SCALARS = {
    _NULL: re.compile(r"^(?:~|null|Null|NULL|)$"),
    _BOOL: re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"),
    **_NUMBERS,
}


def read_text(path: str | Path, most_bytes: int = MOST_BYTES) -> str:
    """The text of a file that a person wrote: UTF-8, with or without a mark of its byte order.

    Raises InputError: missing, unreadable, another encoding, larger than `most_bytes`.
    """
    try:
        with Path(path).open("rb") as file:
            held = file.read(most_bytes + 1)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:  # ValueError: NUL in the name
        said = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {said}") from None
    if len(held) > most_bytes:
        raise InputError(f"{path}: expected at most {most_bytes / 1e6:.0f} MB of text, got more")
    try:
        return held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = held[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: cannot be read: line {line} is not UTF-8: {error.reason}") from None


def parse_json(text: str) -> Any:
    """Data of a JSON text. Raises ValueError, one line with the line of the text."""
    try:
        return _bounded(json.loads(text, object_pairs_hook=_unique))
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: {error.msg[0].lower()}{error.msg[1:]}") from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_yaml(text: str) -> Any:
    """Data of a YAML text, one document. Raises ValueError, one line with the line of the text."""
    try:
        return _bounded(yaml.load(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        raise ValueError((f"line {mark.line + 1}: " if mark else "") + " ".join(said.split())) from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def dump_yaml(data: Any, **style: Any) -> str:
    """Plain data as YAML that `parse_yaml`, and readers of YAML 1.1, read as the same data."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, **style)


_TOO_DEEP = f"expected at most {DEEPEST} groups inside of each other, got more"
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""What no file of text can hold: control characters, halves of characters."""


def _bounded(data: Any) -> Any:
    """The same data. Raises ValueError: too deep, without end, too many values, a string that is no text."""
    waiting, seen = [(data, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        seen += 1
        if depth > DEEPEST:
            raise ValueError(_TOO_DEEP)
        if seen > MOST_VALUES:
            raise ValueError(f"expected at most {MOST_VALUES:,} values, aliases counted, got more")
        if isinstance(value, str) and (found := _NO_TEXT.search(value)):
            raise ValueError(f"expected text, got {shortened(value)} with the character U+{ord(found[0]):04X}")
        if isinstance(value, dict):
            waiting += [(each, depth + 1) for pair in value.items() for each in pair]
        elif isinstance(value, list):
            waiting += [(each, depth + 1) for each in value]
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError for a key that comes twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {shortened(key)} comes twice")
        found[key] = value
    return found


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars, and a key once."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge keys are not of YAML 1.2."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are plain values, each once."""
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no plain value", key_node.start_mark)
            key = self.construct_object(key_node)
            said = f"key {shortened(key)} comes twice" if key in seen else ""
            said = "merge keys (<<) are not read; write the keys" if key_node.value == "<<" else said
            if said:
                raise yaml.constructor.ConstructorError(None, None, said, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_plain(self, node: yaml.ScalarNode) -> Any:
        """Null, true or false, or a number; also where a tag asks for one."""
        text = self.construct_scalar(node)
        try:
            if not _SCALARS[node.tag].match(text):
                raise ValueError(f"not of {node.tag}")
            return _VALUES[node.tag](text)
        except ValueError:  # also a whole number of more digits than Python reads
            kind = node.tag.rpartition(":")[2]
            said = f"expected a value of kind {kind}, got {shortened(text)}"
            raise yaml.constructor.ConstructorError(None, None, said, node.start_mark) from None


class _Dumper(yaml.SafeDumper):
    """Quotes what YAML 1.1 or 1.2 would not read as a string."""


_Loader.yaml_implicit_resolvers = {}
_Loader.yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in (_STR, _SEQ, _MAP, None)}
_VALUES: dict[str, Callable[[str], Any]] = {
    _NULL: lambda text: None,
    _BOOL: lambda text: text.lower() == "true",
    _INT: lambda text: int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)),
    _FLOAT: lambda text: float(text.lower().replace(".inf", "inf").replace(".nan", "nan")),
}
for _tag, _pattern in _SCALARS.items():
    _Loader.add_constructor(_tag, _Loader.construct_plain)
    _Loader.add_implicit_resolver(_tag, _pattern, None)
for _tag, _pattern in _NUMBERS.items():
    _Dumper.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))
