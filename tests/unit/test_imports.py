"""The house's one rule about imports: arrows point downwards only."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "seal_ray"

# from the roof to the cellar; rooms on one floor do not see each other
FLOORS = [
    {"cli"},
    {"commands"},
    {"loops"},
    {"fleet", "policy", "observe"},
    {"trials"},
    {"sampling", "inner", "grading", "domains"},
    {"models"},
    {"storage", "software"},
    {"config_file", "config_checks"},
    {"config", "yaml_text"},
    {"events"},
    {"record_decoder"},
    {"records", "errors", "shapes"},
    {"redaction", "text"},
]
HEAVY = {
    "vllm": {"sampling/engine.py"},
    "deepspeed": {"policy/update.py"},
    "fsspec": {"storage/remote_files.py"},
    "s3fs": set(),  # through fsspec
}


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


def test_inner_runs_on_a_bare_machine() -> None:
    allowed = {"torch", "transformers", "peft", "safetensors", "numpy", "seal_ray"}
    for file in (PACKAGE / "inner").glob("*.py"):
        for module in imports(file):
            top = module.split(".")[0]
            assert top in allowed or top in sys.stdlib_module_names, f"{file.name} imports {module}"
            assert not module.startswith("seal_ray.") or module.split(".")[1] in {"inner", "records", "shapes"}, module


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
