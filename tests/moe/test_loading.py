"""A person's files mean what they say: a key that is lost or a number read otherwise is a wrong answer."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from moe.errors import InputError
from moe.files import FileModel, apply_setting, read_mapping, read_model
from moe.loading import DEEPEST, MOST_BYTES, dump_yaml, parse_json, parse_yaml

ROOT = Path(__file__).parents[2]


class Group(FileModel):
    """What a test's file holds."""

    seed: int = 0
    keep: bool = False
    share: float = 0.0
    sizes: tuple[int, ...] = ()
    shares: dict[str, float] = Field(default_factory=dict)
    inner: dict[str, "Group"] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0512", 512),
        ("0o17", 15),
        ("0x1F", 31),
        ("-3", -3),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("true", True),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("Off", "Off"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("2026-07-01", "2026-07-01"),
        ('"512"', "512"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    """A memory of 0512 MB is no octal number, and `seed: yes` no 1."""
    found = parse_yaml(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.yaml", "seed: 1\nkeep: true\nseed: 2\n", "not valid yaml: line 3: key 'seed' comes twice"),
        ("a.yaml", "inner: {a: {}, b: {}, a: {}}\n", "line 1: key 'a' comes twice"),
        ("a.json", '{"seed": 1, "seed": 2}', "not valid json: key 'seed' comes twice"),
        ("a.yaml", "inner: {a: &x {seed: 1}, b: {<<: *x}}\n", "line 1: merge keys (<<) are not read"),
        ("a.yaml", "? [1]\n: 2\n", "line 1: a key is no plain value"),
        ("a.yaml", "seed: 1\nkeep: !!bool maybe\n", "line 2: expected a value of kind bool, got 'maybe'"),
        ("a.yaml", "seed: !!python/name:os.abort ''\n", "line 1: could not determine a constructor for the tag"),
        ("a.yaml", "seed: " + "9" * 5000, "expected a value of kind int, got '9999"),
        ("a.yaml", 'about: "a\\0b"\n', "expected text, got 'a\\x00b' with the character U+0000"),
        ("a.yaml", "a: 1\n\0", "not valid yaml"),
        ("a.json", '{"about": "\\ud800"}', "with the character U+D800"),
        ("a.json", '{\n"seed": 1,\n}', "not valid json: line 3"),
        ("a.yaml", "a: 1\n---\na: 2\n", "expected a single document"),
        ("a.yaml", "a: &x [*x]\n", f"expected at most {DEEPEST} groups inside of each other"),
        ("a.yaml", "a: " + "[" * 5000, f"expected at most {DEEPEST} groups inside of each other"),
        ("a.json", '{"a": ' + "[" * 200 + "]" * 200 + "}", f"expected at most {DEEPEST} groups"),
        ("a.json", "[" * 100_000, f"expected at most {DEEPEST} groups inside of each other"),
        ("a.yaml", b"a: 1\nb: \xff\n", "cannot be read: line 2 is not UTF-8"),
        ("a.yaml", b"# " + b"x" * MOST_BYTES, "expected at most 10 MB of text, got more"),
        ("a.yaml", "- 1\n", "expected a mapping at the top, got list"),
    ],
)
def test_what_cannot_be_meant_is_one_line(tmp_path: Path, name: str, text: str | bytes, said: str) -> None:
    """A key twice, a wrong tag, another encoding, a bomb: the file and the reason, and nothing taken of it."""
    file = tmp_path / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(InputError) as refused:
        read_mapping(file)
    message = str(refused.value)
    assert message.startswith(f"{file}: ")
    assert said in message
    assert "\n" not in message
    assert len(message) < len(str(file)) + 250, "a whole file is in the message"


def test_aliases_that_explode_are_refused_and_others_read() -> None:
    """A billion values out of ten lines stop no machine; an alias used twice is the value twice."""
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 10)]
    with pytest.raises(ValueError, match="expected at most 2,000,000 values, aliases counted, got more"):
        parse_yaml("\n".join(lines))
    assert parse_yaml("a: &x {b: 1}\nc: *x\n") == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize("bad", ["a\0b.yaml", "x" * 300 + ".yaml", "."])
def test_a_name_that_is_no_file_is_one_line(bad: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read: [^\n]+$"):
        read_mapping(bad)


def test_a_mark_of_byte_order_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    for name, text in (("a.yaml", "seed: 3"), ("a.json", '{"seed": 3}')):
        (tmp_path / name).write_text(text, encoding="utf-8-sig")
        assert read_model(Group, tmp_path / name).seed == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: yes", "seed: input should be a valid integer"),
        ("seed: true", "seed: expected a number, got True"),
        ("share: false", "share: expected a number, got False"),
        ("sizes: [1, true]", "sizes: expected a number, got [1, True]"),
        ("shares: {a: true}", "shares: expected a number, got {'a': True}"),
        ("keep: yes", "keep: expected true or false, got 'yes'"),
        ("inner: {a: {keep: off}}", "inner.a.keep: expected true or false, got 'off'"),
    ],
)
def test_true_is_no_number_and_yes_is_not_true(tmp_path: Path, text: str, said: str) -> None:
    """`seed: yes` was seed 1."""
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(said)):
        read_model(Group, tmp_path / "a.yaml")


def test_a_setting_is_read_as_a_file_is() -> None:
    data: dict[str, Any] = {}
    apply_setting(data, "memory_mb=0512")
    apply_setting(data, "keep=yes")
    assert data == {"memory_mb": 512, "keep": "yes"}
    for setting in ("a={b: 1, b: 2}", "a=" + "[" * 5000, "a=[1"):
        with pytest.raises(InputError, match=r"^--set a=[^\n]{1,300}$"):
            apply_setting(data, setting)


def test_shipped_files_read_as_they_did() -> None:
    """YAML 1.1 and 1.2 differ on no value of a shipped file, but for 1e3 and dates, strings that models take."""
    files = [file for file in ROOT.rglob("*.yaml") if ".venv" not in file.parts]
    assert len(files) > 40

    def same(new: Any, old: Any) -> bool:
        if isinstance(new, dict):
            return [str(key) for key in new] == [str(key) for key in old] and all(
                map(same, new.values(), old.values())
            )
        if isinstance(new, list):
            return len(new) == len(old) and all(map(same, new, old))
        return new == (str(old) if isinstance(new, str) else float(old) if isinstance(new, float) else old)

    for file in files:
        text = file.read_text(encoding="utf-8")
        assert same(parse_yaml(text), yaml.safe_load(text)), f"{file} is read otherwise"


def test_what_is_written_is_read_back_by_both_yamls() -> None:
    """A resolved config whose strings look like numbers of YAML 1.1 or 1.2 keeps them as strings."""
    data = {
        "a": ["1e3", "0o17", "yes", "1:30", "2026-07-01", "0512", "", "~", "<<", "x: y", "é"],
        "b": 1e-5,
        "c": None,
    }
    assert parse_yaml(dump_yaml(data)) == data == yaml.safe_load(dump_yaml(data))
    assert parse_json('{"a": [1, 2.5, null, true]}') == {"a": [1, 2.5, None, True]}
