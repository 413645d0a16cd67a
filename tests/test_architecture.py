import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "akd_jax"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
# Rows of the table of rooms: | FLOOR | `NAME.py` or `NAME/` | CONTENT |
ROWS = re.findall(r"^\| (\d+) \| `(\w+)(?:\.py|/)` \| \S", PAGE, flags=re.MULTILINE)
FLOORS = {name: int(floor) for floor, name in ROWS}


def module_files():
    """The rooms of akd_jax, its top-level modules and packages, each with its Python files."""
    files = {path.stem: [path] for path in PACKAGE.glob("*.py") if path.stem != "__init__"}
    for folder in PACKAGE.iterdir():
        if (folder / "__init__.py").exists():
            files[folder.name] = list(folder.rglob("*.py"))
    return files


def imports(path):
    """The names of the top-level modules of akd_jax that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "akd_jax":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("akd_jax."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("akd_jax."):
                    yield alias.name.split(".")[1]


def test_no_file_has_more_than_300_lines():
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {path: length for path, length in lengths.items() if length > 300} == {}


def test_page_names_each_room_once():
    assert sorted(name for _, name in ROWS) == sorted(module_files())


def test_rooms_import_only_from_lower_floors():
    upward = [
        f"{path.relative_to(ROOT)} imports {imported}"
        for name, paths in module_files().items()
        for path in paths
        for imported in imports(path)
        if imported in FLOORS.keys() - {name} and FLOORS[imported] >= FLOORS[name]
    ]
    assert upward == []


def test_package_imports_neither_configs_nor_experiments():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                modules = [node.module or ""]
            assert not {"configs", "experiments"} & {m.split(".")[0] for m in modules}, path
