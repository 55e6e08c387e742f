"""The order of the floors: a folder of the library imports only itself and the folders above it."""

import ast
import functools
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parent.parent
FLOORS = (
  *("core", "store", "datasets", "videos", "layers", "features", "fusion", "heads"),
  *("metrics", "systems", "training", "reports", "serving", "jobs"),
)
HOST = FLOORS[:4]  # what data workers import of ours (Grain itself imports jax when it is there)
DEVICE_LIBRARIES = {"jax", "jaxlib", "flax", "optax", "orbax", "clu"}
PEERS = {"torch", "torchvision", "tensorflow"}
CONVERSION = pathlib.Path("gasmcast/features/weights/pytorch_files.py")  # imports torch when it must
OUR_CODE = ("gasmcast", "configs", "launch", "benchmarks", "tests")


def python_files(root: pathlib.Path, *folders: str) -> list[pathlib.Path]:
  """The Python files of these folders, as paths below `root`."""
  return [path.relative_to(root) for folder in folders for path in sorted((root / folder).rglob("*.py"))]


def module_name(path: pathlib.Path) -> str:
  """gasmcast/core/rules.py -> gasmcast.core.rules; the name of a package for its __init__.py."""
  parts = path.with_suffix("").parts
  return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(root: pathlib.Path, path: pathlib.Path) -> tuple[str, ...]:
  """Every name that a file imports, anywhere in it: `from a import b` gives a and a.b."""
  package = module_name(path).split(".")
  if path.name != "__init__.py":
    package = package[:-1]
  return imported_names((root / path).read_text(encoding="utf-8"), tuple(package))


@functools.cache
def imported_names(code: str, package: tuple[str, ...]) -> tuple[str, ...]:
  names = []
  for node in ast.walk(ast.parse(code)):
    if isinstance(node, ast.Import):
      names += [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      outside = package[: len(package) - node.level + 1] if node.level else ()
      base = ".".join([*outside, *filter(None, [node.module])])
      names += [base, *(f"{base}.{alias.name}" for alias in node.names)]
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
      names += [item.value for item in node.args[:1] if isinstance(item, ast.Constant) and isinstance(item.value, str)]
  return tuple(names)


def floor(name: str) -> int:
  """The place of gasmcast.<folder>... in the order, -1 for the package itself."""
  parts = name.split(".")
  return FLOORS.index(parts[1]) if len(parts) > 1 else -1


def order_violations(root: pathlib.Path) -> list[str]:
  """Files in folders without a floor, and imports that lead from a folder to one below it."""
  found = []
  for path in python_files(root, "gasmcast"):
    if len(path.parts) > 2 and path.parts[1] not in FLOORS:
      found.append(f"{path}: the folder {path.parts[1]!r} has no floor")
      continue
    if len(path.parts) == 2 and path.name != "__init__.py":
      found.append(f"{path}: a module outside the folders")
      continue
    for name in imports(root, path):
      if name.startswith("gasmcast.") and name.split(".")[1] in FLOORS and floor(name) > floor(module_name(path)):
        found.append(f"{path} imports {name}")
  return found


def outside_imports(root: pathlib.Path, path: pathlib.Path, seen: set[pathlib.Path]) -> Iterator[tuple[str, str]]:
  """(file, library) for every library that importing the file of the project brings in."""
  if path in seen or not (root / path).is_file():
    return
  seen.add(path)
  for parent in path.parents[:-1]:
    yield from outside_imports(root, parent / "__init__.py", seen)
  for name in imports(root, path):
    parts = pathlib.PurePath(*name.split("."))
    if parts.parts[0] in OUR_CODE:
      yield from outside_imports(root, parts.with_suffix(".py"), seen)
      yield from outside_imports(root, parts / "__init__.py", seen)
    else:
      yield str(path), parts.parts[0]


def library_violations(root: pathlib.Path, folders: tuple[str, ...], banned: set[str]) -> list[str]:
  """Files of these folders that import a banned library, themselves or through other files of the project."""
  found = []
  for path in python_files(root, *folders):
    for where, library in outside_imports(root, path, set()):
      if library in banned:
        found.append(f"{path} imports {library}" + (f" through {where}" if where != str(path) else ""))
  return sorted(set(found))


def style_violations(root: pathlib.Path) -> list[str]:
  """Modules (other than tests) without a docstring, and modules named for no concept."""
  found = []
  for path in python_files(root, *OUR_CODE):
    if path.parts[0] != "tests" and not ast.get_docstring(ast.parse((root / path).read_text(encoding="utf-8"))):
      found.append(f"{path} has no docstring")
    if path.stem in ("utils", "util", "helpers", "misc"):
      found.append(f"{path} is named for no concept")
  return found


def assert_none(violations: list[str]) -> None:
  assert not violations, "\n" + "\n".join(violations)


def test_a_folder_imports_only_folders_above_it():
  assert_none(order_violations(ROOT))


def test_what_data_workers_import_is_free_of_device_libraries():
  assert_none(library_violations(ROOT, tuple(f"gasmcast/{folder}" for folder in HOST), DEVICE_LIBRARIES))


def test_configs_are_data():
  assert_none(library_violations(ROOT, ("configs",), DEVICE_LIBRARIES))
  direct = {name.split(".")[0] for path in python_files(ROOT, "configs") for name in imports(ROOT, path)}
  assert "gasmcast" not in direct


def test_peers_are_imported_by_benchmarks_and_tests_alone():
  allowed = (f"{CONVERSION} imports torch", f"imports torch through {CONVERSION}")
  found = library_violations(ROOT, ("gasmcast", "configs", "launch"), PEERS)
  assert_none([line for line in found if not line.endswith(allowed)])


def test_the_one_file_that_needs_torch_imports_it_inside_a_function():
  tree = ast.parse((ROOT / CONVERSION).read_text(encoding="utf-8"))
  functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
  is_torch = lambda node: isinstance(node, ast.Import) and [alias.name for alias in node.names] == ["torch"]
  inside = [node for function in functions for node in ast.walk(function) if is_torch(node)]
  assert len(inside) == 1 and [node for node in ast.walk(tree) if is_torch(node)] == inside


def test_every_module_says_what_it_is():
  assert_none(style_violations(ROOT))


def test_importing_core_store_and_datasets_brings_in_no_jax():
  modules = [module_name(path) for path in python_files(ROOT, *(f"gasmcast/{folder}" for folder in HOST[:3]))]
  code = f"import sys, {', '.join(modules)}\nsys.exit('jax' in sys.modules)"
  done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stderr or "jax was imported"


def plant(root: pathlib.Path, files: dict[str, str]) -> pathlib.Path:
  for name, text in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if path.parts[-3:-2] == ("gasmcast",):
      (path.parent / "__init__.py").touch()
  return root


@pytest.mark.parametrize(
  "line",
  [
    "import gasmcast.fusion.graph",
    "from gasmcast.fusion import graph",
    "from gasmcast import fusion",
    "from ..fusion.graph import edges",
    "from .. import fusion",
    "def late():\n  from gasmcast.fusion.graph import edges",
    "import importlib\nimportlib.import_module('gasmcast.fusion.graph')",
  ],
)
def test_an_import_of_a_lower_floor_is_caught(tmp_path, line):
  assert len(order_violations(plant(tmp_path, {"gasmcast/layers/mlp.py": line}))) >= 1
  assert order_violations(plant(tmp_path, {"gasmcast/layers/mlp.py": "", "gasmcast/heads/pooling.py": line})) == []


def test_a_folder_without_a_floor_and_a_module_outside_are_caught(tmp_path):
  plant(tmp_path, {"gasmcast/tools/a.py": "", "gasmcast/stray.py": "", "gasmcast/core/types.py": ""})
  assert order_violations(tmp_path) == [
    "gasmcast/stray.py: a module outside the folders",
    "gasmcast/tools/__init__.py: the folder 'tools' has no floor",
    "gasmcast/tools/a.py: the folder 'tools' has no floor",
  ]


def test_a_library_is_caught_directly_through_another_file_and_through_a_package(tmp_path):
  files = {
    "gasmcast/core/rng.py": "import jax.random",
    "gasmcast/store/write.py": "from gasmcast.core.rng import key",
    "gasmcast/datasets/folder.py": "import gasmcast.store",
  }
  plant(tmp_path, files)
  assert library_violations(tmp_path, ("gasmcast/core", "gasmcast/store", "gasmcast/datasets"), {"jax"}) == [
    "gasmcast/core/rng.py imports jax",
    "gasmcast/store/write.py imports jax through gasmcast/core/rng.py",
  ]
  (tmp_path / "gasmcast/store/__init__.py").write_text("from flax import linen")
  assert library_violations(tmp_path, ("gasmcast/datasets",), {"flax"}) == [
    "gasmcast/datasets/folder.py imports flax through gasmcast/store/__init__.py"
  ]


def test_a_module_without_docstring_or_concept_is_caught(tmp_path):
  plant(tmp_path, {"configs/tiny.py": "import math", "launch/utils.py": '"""Things."""'})
  assert style_violations(tmp_path) == ["configs/tiny.py has no docstring", "launch/utils.py is named for no concept"]
