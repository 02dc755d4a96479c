"""Files that a person writes: YAML or JSON in, a validated pydantic model out, one clear line if not.

Files that a program writes are whole, or as they were: `write_whole`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from moe.errors import InputError, PlatformError, nearest, shortened
from moe.loading import parse_json, parse_yaml, read_text


class FileModel(BaseModel):
    """Base of everything that is read from a file: no unknown keys, no NaN, no true for 1, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, data: Any) -> Any:
        """True is no 1, and `yes` not true."""
        for key, value in data.items() if isinstance(data, dict) else ():
            if type(value) in (int, float, tuple):  # most values; of a program's own values nearly all
                continue
            kinds = _kinds_of_fields(cls).get(key, frozenset())
            inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            if kinds & {int, float} and bool not in kinds and any(isinstance(each, bool) for each in inner):
                said = f"expected a number, got {shortened(value)}"
                raise PydanticCustomError("wrong_kind", "{said}", {"key": key, "said": said})
            if bool in kinds and kinds <= {bool, type(None)} and isinstance(value, str):
                said = f"expected true or false, got {shortened(value)}"
                raise PydanticCustomError("wrong_kind", "{said}", {"key": key, "said": said})
        return data


@cache
def _kinds_of_fields(model: type[BaseModel]) -> dict[str, frozenset[Any]]:
    """By its key, the plain types that each field's type is made of: int and None of `tuple[int, ...] | None`."""

    def kinds_of(annotation: Any) -> frozenset[Any]:
        return frozenset([annotation]).union(*map(kinds_of, get_args(annotation)))

    return {field.alias or name: kinds_of(field.annotation) for name, field in model.model_fields.items()}


Model = TypeVar("Model", bound=BaseModel)


def read_mapping(path: str | Path) -> dict[str, Any]:
    """The mapping at the top of a YAML or JSON file.

    Raises InputError when the file is missing, unreadable, or holds something else.
    """
    text, suffix = read_text(path), Path(path).suffix.lower()
    try:
        data = parse_json(text) if suffix == ".json" else parse_yaml(text)
    except ValueError as error:
        raise InputError(f"{path}: not valid {suffix.lstrip('.') or 'YAML'}: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected a mapping at the top, got {type(data).__name__}")
    return data


def overlaid(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A file's mapping with changes on it: groups of keys are merged, what has a `source` is replaced whole."""
    merged = dict(base)
    for key, value in changes.items():
        there = merged.get(key)
        is_group = isinstance(value, dict) and isinstance(there, dict) and "source" not in there | value
        merged[key] = overlaid(there, value) if is_group else value  # type: ignore[arg-type]
    return merged


def validated(model: type[Model], data: dict[str, Any], source: str | Path) -> Model:
    """`data` as a `model`; every InputError names `source`, the key, the value and what was expected."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(model, data, error)}") from None


def read_model(model: type[Model], path: str | Path) -> Model:
    """The file at `path` as a `model`. Raises InputError."""
    return validated(model, read_mapping(path), path)


def read_settings(path: str | Path, settings: Sequence[str]) -> dict[str, Any]:
    """The mapping of a file with `key.key=value` settings applied. Raises InputError."""
    data = read_mapping(path)
    for setting in settings:
        apply_setting(data, setting)
    return data


def source_of(path: str | Path, settings: Sequence[str]) -> str:
    """What an error calls a file with settings applied."""
    return f"{path} with --set {' '.join(settings)}" if settings else str(path)


def apply_setting(data: dict[str, Any], setting: str) -> None:
    """Apply one `a.b=value` to a file's mapping; the value is read as YAML. Raises InputError."""
    key, equals, text = setting.partition("=")
    source = f"--set {shortened(setting)[1:-1]}"
    if not equals:
        raise InputError(f"{source}: expected key.key=value, for example workload.batch_tokens=1024")
    try:
        value = parse_yaml(text)
    except ValueError as error:
        raise InputError(f"{source}: {shortened(text)} is not valid YAML: {error}") from None
    set_key(data, key, value, source)


def set_key(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set the key `a.b` of a file's mapping. Raises InputError, which begins with `source`."""
    if not all(key.split(".")):
        raise InputError(f"{source}: expected a key such as workload.batch_tokens, got {shortened(key)}")
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise InputError(f"{source}: '{parent}' is a value, not a group of keys")
    data[last] = value


def write_json(path: str | Path, model: BaseModel) -> None:
    """Write a model as JSON, keys as in its file format. Raises PlatformError."""
    write_whole(path, model.model_dump_json(by_alias=True, indent=1) + "\n")


def write_whole(path: str | Path, content: str | bytes | Callable[[Path], object]) -> None:
    """Write a file: it is whole, or as it was before. A stream, such as /dev/stdout, is written straight to.

    Args:
        path: the file; its folder is made.
        content: text, bytes, or a function that writes to the path that it is given.

    Raises PlatformError for a full disk, or what else the system refuses.
    """
    path = Path(path)
    is_stream = os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
    target = Path(os.path.realpath(path))  # a link stays a link
    partial = path if is_stream else target.with_name(f".{target.name}.{os.getpid()}.partial")
    with writing(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            if callable(content):
                content(partial)
            else:
                partial.write_bytes(content.encode() if isinstance(content, str) else content)
            if not is_stream:
                partial.replace(target)
        finally:
            if not is_stream:
                partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses while a file or folder is written, told in one line. Raises PlatformError."""
    try:
        yield
    except OSError as error:
        kept = "; what was there before is kept" if os.path.exists(path) else ""
        raise PlatformError(f"{path}: cannot be written: {error.strerror or _one_line(error)}{kept}") from error


def _explain(model: type[BaseModel], data: dict[str, Any], error: ValidationError) -> str:
    """The most telling problem of a validation, in one line, and how many more there are."""
    problems = error.errors(include_url=False)
    if any(problem["type"] != "too_short" for problem in problems):  # a list counts its valid items only
        problems = [problem for problem in problems if problem["type"] != "too_short"]
    first = max(
        problems, key=lambda problem: len(problem["loc"])
    )  # of a union's branches, the one that got furthest
    keys = _keys_in(data, first["loc"])
    where, got = ".".join(map(str, keys)) or "the file", shortened(first["input"])
    expected = first.get("ctx", {}).get("expected", "")
    others = len({_keys_in(data, problem["loc"]) for problem in problems}) - 1
    match first["type"]:
        case "extra_forbidden":
            text = f"{where}: unknown key{nearest(str(keys[-1]), _keys_at(model, first['loc'][:-1]))}"
        case "missing":
            text = f"{where}: required, but missing"
        case "literal_error":
            names = expected.replace(" or ", ", ").replace("'", "").split(", ")
            text = f"{where}: expected {expected}, got {got}" + (
                nearest(got.strip("'"), names) if names[1:] else ""
            )
        case "union_tag_invalid":
            tag, names = first["ctx"]["tag"], first["ctx"]["expected_tags"].replace("'", "").split(", ")
            key = first["ctx"]["discriminator"].strip("'")
            text = f"{where}.{key}: got {shortened(tag)}{nearest(tag, names)}"
        case "union_tag_not_found":
            text = f"{where}.{first['ctx']['discriminator'].strip(chr(39))}: required, but missing"
        case "wrong_kind":
            text = f"{'.'.join(map(str, (*keys, first['ctx']['key'])))}: {first['ctx']['said']}"
        case "value_error":
            text = f"{where}: {first['ctx']['error']}"
        case _:
            text = f"{where}: {first['msg'][0].lower()}{first['msg'][1:]}, got {got}"
    return text + (f" (and {others} more)" if others else "")


def _keys_in(data: Any, loc: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """The parts of an error's location that are keys of the file; the rest name branches of a union."""
    keys: list[int | str] = []
    for place, part in enumerate(loc):
        is_key = isinstance(data, dict) or (isinstance(data, list) and isinstance(part, int))
        known = is_key and (part in data if isinstance(data, dict) else int(part) < len(data))
        if known:
            data = data[part]
        if known or (is_key and place == len(loc) - 1):
            keys.append(part)
    return tuple(keys)


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the model allows at a location of an error."""
    models: list[Any] = [model]
    for part in loc:
        if isinstance(part, int):
            continue
        fields = {(field.alias or name): field.annotation for name, field in models[0].model_fields.items()}
        tagged = [each for each in models if _has_tag(each, part)]
        models = _inner_models(fields.get(part)) or tagged or models
    return [field.alias or name for name, field in models[0].model_fields.items()]


def _inner_models(annotation: Any) -> list[Any]:
    """The pydantic models inside a type such as `tuple[Layer, ...]` or `Layer | None`."""
    if _is_model(annotation):
        return [annotation]
    return [found for part in get_args(annotation) for found in _inner_models(part)]


def _has_tag(model: Any, tag: str) -> bool:
    """Whether the model is a union's branch of that name."""
    return any(tag in get_args(field.annotation) for field in model.model_fields.values())


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
