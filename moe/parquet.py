"""Parquet files whose metadata says what they are: written atomically, refused in one clear line.

The schema's metadata key `serverless-moe` holds JSON; its `schema` names the kind of file and its version, its
`sha256` is of all values and of the rest of that JSON: a file that was damaged, or changed by hand, is refused.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from moe.errors import InputError
from moe.files import write_whole

if TYPE_CHECKING:
    import pandas as pd

METADATA_KEY = b"serverless-moe"
CHECKSUM = "sha256"


def write_parquet(path: str | Path, columns: Mapping[str, np.ndarray | list[Any]], about: dict[str, Any]) -> None:
    """Write columns and what is to be said of them, atomically: the file is whole or absent."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(columns)
    about = about | {CHECKSUM: _checksum(table, about)}
    table = table.replace_schema_metadata({METADATA_KEY: json.dumps(about, sort_keys=True).encode()})
    write_whole(path, lambda partial: pq.write_table(table, partial, compression="zstd"))


def read_parquet(path: str | Path) -> Any:
    """The file as an arrow table. Raises InputError: it is missing, unreadable, damaged, or has a column twice."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    try:
        with pq.ParquetFile(path) as file:  # `read_table` makes columns of folders named `a=b`
            table = file.read()
        names = table.column_names
        about = _about(table.schema.metadata)
        found = _checksum(table, about) if CHECKSUM in about else None
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet file: {' '.join(str(error).split())}") from None
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: column '{twice}': expected once, it is there {names.count(twice)} times")
    if found != about.get(CHECKSUM):
        raise InputError(f"{path}: damaged, or changed since it was written: its values have another sha256")
    return table


def read_columns(path: str | Path, columns: Sequence[str]) -> "pd.DataFrame":
    """The file as a data frame, which has these columns at least; without row numbers. Raises InputError."""
    held = read_parquet(path)
    try:
        table = held.to_pandas(ignore_metadata=True)
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{path}: not a readable parquet file: {' '.join(str(error).split())}") from None
    table = table.drop(columns=[name for name in table.columns if name.startswith("__index_level_")])
    missing = sorted(set(columns) - set(table.columns))
    if missing:
        raise InputError(f"{path}: expected columns {', '.join(columns)}; missing {', '.join(missing)}")
    return table


def schema_of(path: str | Path) -> Any:
    """What the file's metadata calls it (`routing-trace/1`, ...), without reading its rows; None if nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not os.path.exists(path):
        raise InputError(f"{path}: no such file")
    try:
        return _about(pq.read_schema(path).metadata).get("schema")
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet file: {' '.join(str(error).split())}") from None


def about_of(path: str | Path, table: Any, schema: str, what: str) -> dict[str, Any]:
    """What the file's metadata says, checked to be of that schema. Raises InputError, which says `what`."""
    about = _about(table.schema.metadata)
    about.pop(CHECKSUM, None)
    if about.get("schema") != schema:
        raise InputError(f"{path}: schema: expected a {what} ('{schema}'), got {about.get('schema')!r}")
    return about


def whole_number(path: str | Path, about: dict[str, Any], key: str) -> int:
    """A number >= 1 in the metadata. Raises InputError."""
    value = about.get(key)
    if not isinstance(value, int) or value < 1:
        raise InputError(f"{path}: {key}: expected a whole number from 1 in the metadata, got {value!r}")
    return value


def column(path: str | Path, table: Any, name: str, kind: type) -> np.ndarray:
    """A column as an array of a type, without gaps and without loss. Raises InputError."""
    import pyarrow as pa

    values = table[name]
    try:
        if values.null_count:
            raise InputError(f"{path}: {name}: expected a value in every row, {values.null_count} are missing")
        return values.cast(pa.from_numpy_dtype(kind)).to_numpy()
    except pa.ArrowException as error:
        raise InputError(f"{path}: {name}: expected {kind.__name__}: {' '.join(str(error).split())}") from None


def no_others(path: str | Path, found: Iterable[str], known: Iterable[str]) -> None:
    """Raise InputError for a column that is not known: what it means would be lost."""
    known = list(known)
    other = next((name for name in found if name not in known), None)
    if other is not None:
        raise InputError(f"{path}: unknown column '{other[:60]}'; expected {', '.join(known)}")


def _checksum(table: Any, about: dict[str, Any]) -> str:
    """SHA-256 over the values of all columns and what is said of them, 64 hex digits."""
    import pyarrow as pa

    said = {key: value for key, value in about.items() if key != CHECKSUM}
    whole = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name, values in zip(table.column_names, table.columns, strict=True):
        plain = values.null_count == 0 and pa.types.is_primitive(values.type)
        whole.update(name.encode() + b"\0")
        whole.update(values.to_numpy().tobytes() if plain else repr(values.to_pylist()).encode())
    return whole.hexdigest()


def _about(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    try:
        about = json.loads((metadata or {}).get(METADATA_KEY, b"{}"))
    except ValueError:
        return {}
    return about if isinstance(about, dict) else {}
