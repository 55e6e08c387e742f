"""What setup.py, the constraints, the licence and the Makefile promise fits the code and each other."""

import ast
import importlib.metadata
import itertools
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import types
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import gasmcast

ROOT = pathlib.Path(__file__).parent.parent
CONSTRAINTS = {"3.11": ROOT / "constraints/py311.txt", "3.12": ROOT / "constraints/py312.txt"}
PINNED_EXTRAS = ("test", "dev", "report", "serve")


@pytest.fixture
def promised(monkeypatch) -> dict:
  """The arguments that setup.py gives to setuptools, which need not be installed here."""
  given = {}
  stand_in = types.SimpleNamespace(setup=given.update, find_packages=lambda include: include)
  monkeypatch.setitem(sys.modules, "setuptools", stand_in)
  runpy.run_path(str(ROOT / "setup.py"))
  return given


def requirements(lines: list[str]) -> dict[str, Requirement]:
  return {canonicalize_name(requirement.name): requirement for requirement in map(Requirement, lines)}


def pins(path: pathlib.Path) -> dict[str, str]:
  pinned = {}
  for line in path.read_text(encoding="utf-8").splitlines():
    if not line.startswith("#"):
      match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][0-9a-z.]*)", line)
      assert match, f"{path.name}: {line!r} is not of the form name==version"
      pinned[canonicalize_name(match[1])] = match[2]
  return pinned


def test_the_version_is_the_one_of_the_package(promised):
  assert promised["version"] == gasmcast.__version__
  assert promised["name"] == "gasmcast"
  assert promised["python_requires"] == ">=3.11"


@pytest.mark.parametrize("python", CONSTRAINTS)
def test_every_dependency_is_pinned_inside_its_bounds(promised, python):
  pinned = pins(CONSTRAINTS[python])
  extras = [line for extra in PINNED_EXTRAS for line in promised["extras_require"][extra]]
  for name, requirement in requirements(promised["install_requires"] + extras).items():
    assert requirement.specifier.contains(pinned[name]), f"{name}: {pinned[name]} is outside of {requirement}"


def test_a_lower_bound_is_what_the_oldest_environment_holds(promised):
  pinned = pins(CONSTRAINTS["3.11"])
  for name, requirement in requirements(promised["install_requires"] + promised["extras_require"]["test"]).items():
    lowest = [bound.version for bound in requirement.specifier if bound.operator in (">=", "==")]
    assert lowest == [pinned[name]], f"{name}: {requirement} promises more than py311.txt shows ({pinned[name]})"


def test_both_ends_of_the_range_of_jax_are_pinned(promised):
  assert pins(CONSTRAINTS["3.11"])["jax"] == "0.10.2"
  assert pins(CONSTRAINTS["3.12"])["jax"].startswith("0.12.")


def test_every_library_the_code_imports_is_declared(promised):
  declared = requirements([*promised["install_requires"], *itertools.chain(*promised["extras_require"].values())])
  distributions = importlib.metadata.packages_distributions()
  undeclared = []
  for path in sorted(file for folder in ("gasmcast", "launch", "configs") for file in (ROOT / folder).rglob("*.py")):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
      if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
      elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [node.module]
      else:
        continue
      for library in {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - {"gasmcast", "configs"}:
        sources = {canonicalize_name(source) for source in distributions.get(library, [library])}
        if not sources & set(declared):
          undeclared.append(f"{path.relative_to(ROOT)} imports {library}")
  assert not undeclared, "\n" + "\n".join(undeclared)


def test_every_folder_with_code_is_a_package():
  folders = {path.parent for path in (ROOT / "gasmcast").rglob("*.py")}
  assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").is_file()) == []


def test_every_file_that_is_no_code_is_package_data(promised):
  data = {
    file
    for package, patterns in promised["package_data"].items()
    for pattern in patterns
    for file in (ROOT / package.replace(".", "/")).glob(pattern)
  }
  others = {
    path
    for path in (ROOT / "gasmcast").rglob("*")
    if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
  }
  assert others - data == set()


@pytest.mark.network
def test_the_wheel_holds_the_whole_package(tmp_path):
  source = tmp_path / "source"
  shutil.copytree(ROOT / "gasmcast", source / "gasmcast", ignore=shutil.ignore_patterns("__pycache__"))
  for name in ("setup.py", "pyproject.toml", "LICENSE"):
    shutil.copy(ROOT / name, source)
  command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(source)]
  subprocess.run(command, check=True)
  with zipfile.ZipFile(tmp_path / f"gasmcast-{gasmcast.__version__}-py3-none-any.whl") as wheel:
    held = {name for name in wheel.namelist() if name.startswith("gasmcast/")}
  assert held == {path.relative_to(source).as_posix() for path in (source / "gasmcast").rglob("*") if path.is_file()}


def test_the_licence_is_the_one_that_is_named(promised):
  assert promised["license"] == "Apache-2.0"
  text = (ROOT / "LICENSE").read_text(encoding="utf-8")
  assert "Apache License\n                           Version 2.0, January 2004" in text
  assert "END OF TERMS AND CONDITIONS" in text


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_help_lists_every_target():
  text = (ROOT / "Makefile").read_text(encoding="utf-8")
  targets = set(re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)[1].split())
  listed = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
  assert set(re.findall(r"^make (\S+)", listed, re.MULTILINE)) == targets


def test_the_script_of_the_continuous_integration_can_be_run():
  assert os.access(ROOT / ".ci/run", os.X_OK)
