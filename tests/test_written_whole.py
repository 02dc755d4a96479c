"""No module writes a file by itself: a command that is killed, or a disk that is full, leaves no half of one."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("moe", "simulator", "optimizer", "calibration", "lambda_probe", "experiments")
INSIDE_FUNCTIONS = ("lambda_probe/handlers/", "lambda_probe/local/")  # of the platform, into folders of their own
WRITERS = {
    "moe/files.py": "write_whole itself",
    "moe/held.py": "a lock",
    "moe/pretrained/models.py": "into a new folder, which is whole or absent",
    "experiments/sweep/folder.py": "into a new folder, which is whole or absent",
    "experiments/sweep/executors.py": "a copy of the code into a temporary folder",
    "experiments/traffic/run.py": "tables in chunks; result.json, written last, says that they are whole",
    "lambda_probe/campaign/folder.py": "a log, to which every call is appended",
    "lambda_probe/account/deploy.py": "an archive in memory",
}
WRITING = {
    *("write_text", "write_bytes", "savefig", "save_pretrained", "save_file", "to_parquet", "to_csv", "to_json"),
    *("write_table", "ParquetWriter", "writestr", "copy", "copyfile", "copytree", "savez", "extractall"),
}
TO_A_TABLE_OR_TEXT = {"to_csv", "to_parquet", "to_json"}  # without a path they return what they would write
OF_MODULES = {"copy": "shutil", "write_table": "pq", "save": "np", "dump": "json"}


def _modules() -> list[Path]:
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    return [file for file in files if not str(file.relative_to(ROOT)).startswith(INSIDE_FUNCTIONS)]


def writes(source: str) -> list[int]:
    """Lines that write to a file, but for what is handed to `write_whole`."""
    tree = ast.parse(source)
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    handed = {id(inner) for call in calls if _name(call) == "write_whole" for inner in ast.walk(call)}
    return [call.lineno for call in calls if id(call) not in handed and _writes(call)]


def _writes(call: ast.Call) -> bool:
    name, of = _name(call), _of(call)
    if name == "open":
        modes = [x.value for x in (*call.args, *(k.value for k in call.keywords)) if isinstance(x, ast.Constant)]
        return any(isinstance(mode, str) and len(mode) < 4 and set(mode) & set("wax+") for mode in modes)
    if name in OF_MODULES:
        return of == OF_MODULES[name]
    if name in TO_A_TABLE_OR_TEXT:
        return bool(call.args) or any(k.arg in ("path", "path_or_buf") for k in call.keywords)
    return name in WRITING


def _name(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _of(call: ast.Call) -> str:
    return getattr(getattr(call.func, "value", None), "id", "")


def test_files_are_written_in_one_place() -> None:
    """A result is whole or as it was, wherever it is written: through write_whole, or for a stated reason."""
    found = {str(file.relative_to(ROOT)): lines for file in _modules() if (lines := writes(file.read_text()))}
    alone = {f"{name}:{line}" for name, lines in found.items() if name not in WRITERS for line in lines}
    assert not alone, f"these lines write to a file by themselves; a killed command leaves half of it: {alone}"
    assert set(WRITERS) == set(found), f"named as writers, but write nothing: {set(WRITERS) - set(found)}"


@pytest.mark.parametrize(
    "source",
    [
        *('path.write_text("x")', "path.write_bytes(b)", 'open("a", "w")', 'path.open("ab")', 'open(p, mode="x")'),
        *("table.to_csv(path)", "table.to_parquet(path)", "pq.write_table(t, path)", "figure.savefig(path)"),
        *("np.save(path, x)", "json.dump(x, file)", "shutil.copy(a, b)", 'path.open("rb+")'),
    ],
)
def test_each_way_to_write_is_seen(source: str) -> None:
    """A way to write that the walk does not see would be no rule."""
    assert writes(source) == [1]


@pytest.mark.parametrize(
    "source",
    [
        *(
            'open("rows")',
            'path.open("rb")',
            "table.to_csv(index=False)",
            "rows.copy()",
            "folder.write_table(True)",
        ),
        *("write_whole(path, lambda partial: pq.write_table(t, partial))", "write_whole(path, table.to_parquet)"),
    ],
)
def test_what_writes_no_file_is_let_be(source: str) -> None:
    """Reading, and what is handed to write_whole, is no writing."""
    assert not writes(source)
