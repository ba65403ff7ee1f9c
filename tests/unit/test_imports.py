"""The house's rules about imports and names: arrows point downwards, none runs in a circle, a name has one meaning."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "seal_ray"

# from the roof to the cellar; rooms on one floor do not see each other
FLOORS = [
    {"__main__"},
    {"cli"},
    {"commands"},
    {"loops"},
    {"fleet", "policy", "observe"},
    {"trials"},
    {"sampling", "inner", "grading", "domains"},
    {"models"},
    {"storage", "software", "sandbox", "ray_private"},
    {"config_file", "config_checks"},
    {"config", "yaml_text", "tokens"},
    {"event_stream"},
    {"events", "header_keys"},
    {"records", "errors", "shapes"},
    {"redaction", "process_end"},
    {"text", "plain_data", "cache_folder"},
]
HEAVY = {
    "vllm": {"sampling/engine.py", "sampling/engine_metrics.py", "sampling/server.py"},
    "deepspeed": {"policy/deepspeed_engine.py"},
    "fsspec": {"storage/remote_files.py"},
    "s3fs": set(),  # through fsspec
}
RAYS_OWN = {"_private", "_raylet", "_common"}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import hides where its arrow points"
            module = node.module or ""
            yield module
            if module == "seal_ray":
                yield from (f"seal_ray.{alias.name}" for alias in node.names)


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    for level, rooms in enumerate(FLOORS):
        if name in rooms:
            return level
    raise AssertionError(f"seal_ray/{name} stands on no floor; give it a place in FLOORS")


def upward(file: Path, module: str) -> bool:
    parts = module.split(".")
    if parts[0] != "seal_ray" or len(parts) == 1 or parts[1] in {"run", "open", "Run", "__version__"}:
        return False
    here, there = room(file), parts[1]
    return here != there and here != "__init__" and floor(there) <= floor(here)


def test_arrows_point_downwards() -> None:
    wrong = [f"{f.relative_to(ROOT)} -> {m}" for f in PACKAGE.rglob("*.py") for m in imports(f) if upward(f, m)]
    assert not wrong


def test_an_upward_arrow_would_be_found() -> None:
    assert upward(PACKAGE / "storage/store.py", "seal_ray.loops.rounds")
    assert upward(PACKAGE / "inner/bank.py", "seal_ray.grading.lexical")
    assert not upward(PACKAGE / "loops/rounds.py", "seal_ray.storage.ledger")


def test_each_heavy_library_has_one_door() -> None:
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        name = file.relative_to(PACKAGE).as_posix()
        for module in imports(file):
            doors = HEAVY.get(module.split(".")[0])
            if doors and name not in doors:
                wrong.append(f"{name} imports {module}; only {', '.join(doors)} may")
    assert not wrong


def test_private_parts_of_ray_stand_behind_one_file() -> None:
    private = {f.name for f in PACKAGE.rglob("*.py") for m in imports(f) if _rays_own(m)}
    assert private == {"ray_private.py"}


def _rays_own(module: str) -> bool:
    parts = module.split(".")
    return parts[0] == "ray" and not RAYS_OWN.isdisjoint(parts)


def test_inner_runs_on_a_bare_machine() -> None:
    allowed = {"torch", "transformers", "peft", "safetensors", "numpy", "seal_ray"}
    for file in (PACKAGE / "inner").rglob("*.py"):
        by_hand = {"triton"} if file.name.startswith("triton_") else set()  # imported where it is there
        for module in imports(file):
            top = module.split(".")[0]
            assert top in allowed | by_hand or top in sys.stdlib_module_names, f"{file.name} imports {module}"
            assert not module.startswith("seal_ray.") or module.split(".")[1] in {
                "inner",
                "cache_folder",
                "records",
                "shapes",
                "redaction",
            }, module


def test_configuration_loads_without_the_heavy_libraries() -> None:
    code = (
        "import sys, seal_ray.cli, seal_ray.config_file\n"
        "heavy = {'torch', 'ray', 'vllm', 'transformers', 'deepspeed', 's3fs', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_no_two_test_modules_have_one_name() -> None:
    names = [f.name for f in (ROOT / "tests").rglob("*.py") if f.name != "conftest.py"]
    assert sorted(names) == sorted(set(names)), "they are imported by their names, so one would hide the other"


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(file: Path, modules: set[str]) -> set[str]:
    """The modules of this package that a file needs, also those that a function imports when it is called."""
    needed: set[str] = set()
    tree = ast.parse(file.read_text())
    for_types = {n for i in ast.walk(tree) if isinstance(i, ast.If) and _of_types(i) for n in ast.walk(i)}
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                needed.add(whole if whole in modules else node.module)
        elif isinstance(node, ast.Import):
            needed |= {alias.name for alias in node.names}
    own = module_of(file)
    # a module brings along the packages that it is in, but for those that whoever needs it is in as well
    around = {package for module in needed for package in packages(module) if not f"{own}.".startswith(f"{package}.")}
    return (needed | around) & modules - {own, "seal_ray"}  # whose front imports when it is asked


def packages(module: str) -> Iterator[str]:
    while module := module.rpartition(".")[0]:
        yield module


def _of_types(branch: ast.If) -> bool:
    return isinstance(branch.test, ast.Name) and branch.test.id == "TYPE_CHECKING"


def circle(needs: dict[str, set[str]]) -> list[str]:
    """Modules that need each other in a ring; none where there is no such ring."""
    done: set[str] = set()

    def walk(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for other in sorted(needs[module]):
            if found := walk(other, [*path, module]):
                return found
        done.add(module)
        return []

    return next((found for module in sorted(needs) if (found := walk(module, []))), [])


def test_no_modules_need_each_other() -> None:
    files = {module_of(f): f for f in PACKAGE.rglob("*.py")}
    needs = {m: imported_modules(f, set(files)) for m, f in files.items()}
    assert not circle(needs)


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert not circle({"a": {"b", "c"}, "b": {"c"}, "c": set()})


def test_a_class_name_has_one_meaning() -> None:
    classes: dict[str, list[str]] = {}
    aliases: dict[str, list[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        place = file.relative_to(PACKAGE).as_posix()
        tree = ast.parse(file.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(place)
        for node in tree.body:
            target = node.targets[0] if isinstance(node, ast.Assign) else None
            if isinstance(target, ast.Name) and target.id[0].isupper() and not target.id.isupper():
                aliases.setdefault(target.id, []).append(place)
    several = {name: places for name, places in classes.items() if len(places) > 1}
    assert not several
    assert not {name: (places, classes[name]) for name, places in aliases.items() if name in classes}
