"""The rules of the house: which package may import which, and how large a folder, a file and a function may be."""

import ast
import importlib
import pkgutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = {"edgeclf": ROOT / "edgeclf", "edgeclf_runtime": ROOT / "deploy" / "edgeclf_runtime"}
# From the top down: a name imports those after it, and itself; a package's own root imports nothing but lazily.
LAYERS = {
    "edgeclf": (
        "__main__",
        "cli",
        "deployment",
        "quantization",
        "calibration",
        "evaluation",
        "training",
        "graph",
        "data",
        "options",
        "targets",
        "display",
        "errors",
    ),
    "edgeclf_runtime": (
        "bundle_entry",
        "__main__",
        "commands",
        "classify",
        "streaming",
        "sinks",
        "fake",
        "capture",
        "trt",
        "runners",
        "bundle",
        "results",
        "images",
        "device",
        "files",
        "errors",
        "text",
    ),
}
# The only imports of a layer above; they are for the type checker.
TYPES_FROM_ABOVE = {
    "edgeclf": set(),
    # Classifier.stream() is stream() with the classifier as its first argument.
    "edgeclf_runtime": {("streaming", "classify")},
}
MOST_MODULES = 14
MOST_LINES_OF_A_FUNCTION = 60


def modules(package):
    """Give each module of a package: its parts below the package, and its tree."""
    folder = FOLDERS[package]
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        yield parts[:-1] if parts[-1] == "__init__" else parts, path, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree, package, parts, path, types=False):
    """Give what a module imports of its own package, as parts; imports inside functions count, those of types only if asked."""
    here = parts if path.name == "__init__.py" else parts[:-1]
    pending = [tree]
    while pending:
        node = pending.pop()
        if not types and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        pending += ast.iter_child_nodes(node)
        if isinstance(node, ast.ImportFrom):
            module = tuple(node.module.split(".")) if node.module else ()
            if node.level:
                module = (*here[: len(here) - node.level + 1], *module)
            elif module[0] == package:
                module = module[1:]
            else:
                continue
            folder = FOLDERS[package].joinpath(*module)
            for name in node.names:
                inside = (folder / name.name).with_suffix(".py").exists() or (folder / name.name).is_dir()
                yield (*module, name.name) if inside else module


@pytest.mark.parametrize("package", LAYERS)
def test_imports_go_down(package):
    order = LAYERS[package]
    up = []
    for parts, path, tree in modules(package):
        for target in imports(tree, package, parts, path):
            if parts and target and order.index(parts[0]) > order.index(target[0]):
                up.append(f"{'.'.join(parts)} imports {'.'.join(target)}")
    assert not up


@pytest.mark.parametrize("package", LAYERS)
def test_types_go_down_too_but_for_those_that_are_listed(package):
    order = LAYERS[package]
    up = {
        (parts[0], target[0])
        for parts, path, tree in modules(package)
        for target in imports(tree, package, parts, path, types=True)
        if parts and target and order.index(parts[0]) > order.index(target[0])
    }
    assert up == TYPES_FROM_ABOVE[package]


@pytest.mark.parametrize("package", LAYERS)
def test_every_name_at_the_top_has_its_layer(package):
    names = {parts[0] for parts, _, _ in modules(package) if parts}
    assert names == set(LAYERS[package])


@pytest.mark.parametrize("package", LAYERS)
def test_no_module_imports_itself_through_others(package):
    graph = {parts: set(imports(tree, package, parts, path)) - {parts} for parts, path, tree in modules(package)}
    for cut in sorted(graph):
        reached, pending = set(), [cut]
        while pending:
            for target in graph.get(pending.pop(), ()):
                if target not in reached:
                    reached.add(target)
                    pending.append(target)
        assert cut not in reached, f"{'.'.join(cut)} is in a circle"


def test_the_host_is_not_imported_by_the_runtime():
    for parts, _, tree in modules("edgeclf_runtime"):
        names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
        assert not [name for name in names if name.split(".")[0] == "edgeclf"], ".".join(parts)


@pytest.mark.parametrize(("package", "most"), [("edgeclf", 15), ("edgeclf_runtime", 19)])
def test_a_listing_is_short(package, most):
    assert len([path for path in FOLDERS[package].iterdir() if path.name != "__pycache__"]) <= most
    for folder in FOLDERS[package].rglob("*"):
        if folder.is_dir():
            assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_MODULES, folder


@pytest.mark.parametrize("name", ["benchmarks", "examples"])
def test_a_folder_of_programs_is_short(name):
    for folder in (ROOT / name, *(ROOT / name).glob("*/")):
        assert len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) <= MOST_MODULES, folder


@pytest.mark.parametrize(
    "root", [*FOLDERS.values(), ROOT / "benchmarks", ROOT / "examples", ROOT / "tests"], ids=lambda path: path.name
)
def test_functions_are_short(root):
    long = [
        f"{path.name}:{node.name}"
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.end_lineno - node.lineno + 1 > MOST_LINES_OF_A_FUNCTION
    ]
    assert not long


@pytest.mark.parametrize("folder", ["benchmarks", "examples"])
def test_every_imported_name_exists(folder):
    # Those inside functions too, which a benchmark imports only while it measures.
    missing = []
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in LAYERS:
                module = importlib.import_module(node.module)
                modules_in = [found.name for found in pkgutil.iter_modules(getattr(module, "__path__", []))]
                names = [alias.name for alias in node.names if alias.name not in modules_in]
                missing += [f"{path.name}: {node.module}.{name}" for name in names if not hasattr(module, name)]
    assert not missing


@pytest.mark.parametrize("folder", ["edgeclf", "deploy", "benchmarks"])
def test_no_docstring_begins_with_a_question_word(folder):
    words = ("What", "Which", "How", "Why", "Where", "Whether", "Who", "Is", "Are", "Does")
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value.value.strip().splitlines()[0]}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        if node.value.value.split(maxsplit=1)[:1] and node.value.value.split()[0] in words
    ]
    assert found == []
