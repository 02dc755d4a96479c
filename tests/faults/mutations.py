"""Small damage to files, drawn from a seed: of bytes, of text, of what YAML, JSON and tables say."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

Path_ = tuple[Any, ...]
MUST_REFUSE = frozenset({"unknown key", "key twice", "not a number", "not finite"})
"""What no reader may pass over, whichever the file."""
NASTY: tuple[Any, ...] = (
    *(0, -1, 2**63, 10**30, 1e308, -1e-308, 0.5, True, None, "", "x" * 300, "[/x]", "$_{$", "\u202e", "nul\0"),
    *(
        [],
        {},
        [[]],
        [0] * 50,
        {"a": {"b": 1}},
        "1:30",
        "0512",
        "yes",
        "~",
        "..",
        "/",
        "os:abort",
        "subprocess:Popen",
    ),
)


def of_bytes(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Flip a bit, cut, repeat, drop or write over a piece."""
    at, length = rng.randrange(len(content)), rng.randrange(1, 40)
    before, piece, after = content[:at], content[at : at + length], content[at + length :]
    how = {
        "a bit": before + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
        "cut": before,
        "a piece twice": before + piece + piece + after,
        "a piece less": before + after,
        "noise": before + rng.randbytes(length) + after,
        "NUL": before + b"\0" + content[at:],
        "BOM": b"\xef\xbb\xbf" + content,
        "UTF-16": b"\xff\xfe" + content,
    }
    name = rng.choice(list(how))
    return name, how[name]


def of_lines(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """Lines lost, twice, exchanged, indented; a cell of a CSV that is no number."""
    lines = content.split(b"\n")
    at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    name = rng.choice(["lost", "twice", "exchanged", "indented", "cell", "comma"])
    match name:
        case "lost":
            del lines[at]
        case "twice":
            lines.insert(at, lines[at])
        case "exchanged":
            lines[at], lines[other] = lines[other], lines[at]
        case "indented":
            lines[at] = b"  " + lines[at]
        case "cell":
            cells = lines[at].split(b",")
            cells[rng.randrange(len(cells))] = rng.choice(
                [b"", b"nan", b"-1", b"1e999", b"x", b'"', b"99999999999"]
            )
            lines[at] = b",".join(cells)
        case "comma":
            lines[at] = lines[at].replace(b".", b",") + b","
    return f"line {name}", b"\n".join(lines)


def of_mapping(content: bytes, rng: random.Random) -> tuple[str, bytes]:
    """A key unknown, missing or twice, a value of another kind, a number that is none."""
    data = yaml.safe_load(content)
    as_json = content.lstrip()[:1] == b"{"
    places = list(_places(data))
    numbers = [place for place in places if _is_number(_at(data, place))]
    mappings = [place for place in places if isinstance(_at(data, place), dict) and place != ()] or [()]
    name = rng.choice(
        ["unknown key", "key twice", "not a number", "not finite", "missing", "misspelt", "nasty", "nasty", "deep"]
    )
    if name in ("not a number", "not finite") and not numbers:
        name = "nasty"
    place = rng.choice([place for place in places if place])
    match name:
        case "unknown key":
            data["no_such_key"] = 1
        case "key twice":
            key = next(iter(data))
            dumped = _dump(data, as_json)
            again = json.dumps(data[key])
            twice = f'{{"{key}": {again}, ' + dumped.lstrip()[1:] if as_json else f"{key}: {again}\n{dumped}"
            return name, twice.encode()
        case "not a number" | "not finite":
            _put(data, rng.choice(numbers), float("nan" if name == "not a number" else "inf"))
        case "missing":
            inside = _at(data, place[:-1])
            del inside[place[-1]]
        case "misspelt":
            inside = _at(data, place[:-1])
            if isinstance(inside, dict):
                inside[f"{place[-1]}x"] = inside.pop(place[-1])
        case "nasty":
            _put(data, place, rng.choice(NASTY))
        case "deep":
            value: Any = 1
            for _ in range(rng.choice([5, 300])):
                value = [value]
            _put(data, rng.choice(mappings) or place, value)
    return name, _dump(data, as_json).encode("utf-8", "surrogatepass")


def of_table(path: Path, rng: random.Random) -> str:
    """A parquet file with a column lost, of another kind, twice the rows, none, holes, other numbers."""
    table = pd.read_parquet(path)
    column = rng.choice(list(table.columns))
    name = rng.choice(
        ["lost column", "words", "rows twice", "no rows", "holes", "negative", "huge", "shuffled", "extra"]
    )
    match name:
        case "lost column":
            table = table.drop(columns=column)
        case "words":
            table[column] = "word"
        case "rows twice":
            table = pd.concat([table, table])
        case "no rows":
            table = table.iloc[:0]
        case "holes":
            table = table.astype({column: object})
            table.loc[table.index[rng.randrange(len(table))], column] = None
        case "negative" | "huge":
            table = table.astype({column: object})
            table[column] = -1 if name == "negative" else 2**62
        case "shuffled":
            table = table.sample(frac=1, random_state=rng.randrange(1000))
        case "extra":
            table["extra"] = 1
    table.to_parquet(path)
    return name


def damage(path: Path, hows: tuple[str, ...], rng: random.Random) -> str:
    """Damage a file in one of the ways, and say how."""
    how = rng.choice(hows)
    if how == "table":
        return of_table(path, rng)
    change: Callable[[bytes, random.Random], tuple[str, bytes]] = {
        "bytes": of_bytes,
        "lines": of_lines,
        "mapping": of_mapping,
    }[how]
    name, content = change(path.read_bytes(), rng)
    path.write_bytes(content)
    return name


def _dump(data: Any, as_json: bool) -> str:
    if as_json:
        return json.dumps(data)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _places(data: Any, here: Path_ = ()) -> list[Path_]:
    """Where values are, the innermost ones and those that hold them."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [here, *(place for key, value in inner for place in _places(value, (*here, key)))]


def _at(data: Any, place: Path_) -> Any:
    for key in place:
        data = data[key]
    return data


def _put(data: Any, place: Path_, value: Any) -> None:
    _at(data, place[:-1])[place[-1]] = value
