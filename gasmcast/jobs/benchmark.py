"""Job benchmark: our implementations and another library's in one process, taking turns, on the same weights.

A configuration names a subject (what kind of thing is measured, a module of `SUBJECTS`) and cases. For each case the
subject makes sides, ours first; this job times them, holds them to compute the same, and writes benchmark.json (every
round's time) and benchmark.md (tables, also printed).
"""

import contextlib
import dataclasses
import datetime
import gc
import importlib
import os
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from rich.console import Console

from gasmcast.core import machine
from gasmcast.core.config import parse, require
from gasmcast.core.errors import WorkdirError
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.core.timing import Schedule, Side, largest_error, measure
from gasmcast.jobs import benchmark_peers, records
from gasmcast.jobs.benchmark_peers import PLATFORMS, Peers, PeersConfig
from gasmcast.jobs.run import Run
from gasmcast.reports.benchmark import CaseResult, Reading, Target, case_numbers, markdown

SUBJECTS = {name: f"gasmcast.jobs.benchmark_{name}" for name in ("backbones", "data", "training")}
_BUSY = 0.5  # load for each CPU from which on times mislead


@dataclasses.dataclass(frozen=True)
class Prepared:
  """A case ready to be measured.

  A subject's module has `parse_case(values, where)`, which gives a case with a `dtype`, whose peak it is compared with,
  `prepare(where, case, peers, platform)`, which gives this, and `versions()` of what only it needs.

  Attributes:
    sides: ours first.
    what: is computed, in words.
    flop: operations of a call, by `formula`; 0 and "" if nobody counts any.
    tolerance: largest error.
    difference: by which errors are told, of `core.timing`.
    reference: the exact result; None takes our first side's.
    clips: of a call; 0 where a call isn't about clips.
    readings: takes numbers other than times.
  """

  sides: Sequence[Side]
  what: str
  flop: float
  formula: str
  tolerance: float
  difference: Callable[[np.ndarray, np.ndarray], float] = largest_error
  reference: Mapping[str, np.ndarray] | None = None
  clips: int = 0
  readings: Callable[[], Sequence[Reading]] = tuple


@dataclasses.dataclass(frozen=True)
class _CaseFields:
  """What a case has whatever its subject; without a schedule of its own it is measured by that of the config."""

  target: Target | None = None
  platforms: tuple[str, ...] = PLATFORMS
  schedule: Schedule | None = None


@dataclasses.dataclass(frozen=True)
class _Fields:
  """The top level of a config, the cases still untyped."""

  job: str
  subject: str
  schedule: Schedule
  peak: dict[str, tuple[int, ...]]
  cases: dict[str, dict[str, Any]]
  peers: PeersConfig | None = None

  def __post_init__(self):
    require(self.subject in SUBJECTS, f"config.subject = {self.subject!r} is no subject; use {', '.join(SUBJECTS)}.")
    for platform, sizes in self.peak.items():
      require(
        platform in PLATFORMS and all(size > 0 for size in sizes),
        f"config.peak.{platform} = {sizes}: give sides of square matrices for {', '.join(PLATFORMS)}.",
      )


class Benchmark(Run):
  """A run that measures.

  Raises:
    ConfigError: unknown fields, or cases that can't be.
  """

  def __init__(
    self, config: Mapping[str, Any], workdir: str | os.PathLike, command: str, console: Console | None = None
  ):
    super().__init__(config, workdir, command, console)
    # Another library is to have room on the same accelerator; read when jax first looks for devices.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    self.fields = parse(_Fields, self.raw, "config")
    self.subject = importlib.import_module(SUBJECTS[self.fields.subject])
    self.common, self.cases = {}, {}
    for name, values in self.fields.cases.items():
      known = {field.name for field in dataclasses.fields(_CaseFields)}
      where = f"config.cases.{name}"
      self.common[name] = parse(_CaseFields, {key: value for key, value in values.items() if key in known}, where)
      others = {key: value for key, value in values.items() if key not in known}
      self.cases[name] = self.subject.parse_case(others, where)

  @property
  def names(self) -> list[str]:
    """The cases for this platform.

    Raises:
      ConfigError: there is none.
    """
    platform = jax.default_backend()
    names = [name for name, common in self.common.items() if platform in common.platforms]
    require(bool(names), f"config.cases: none is for a {platform}; add {platform!r} to the platforms of one.")
    return names

  def say(self, line: str) -> None:
    self.console.print(line, markup=False, highlight=False, soft_wrap=True)


SETUP = Benchmark


def check(benchmark: Benchmark) -> None:
  """Refuses a working directory whose records belong to a training, and a configuration without a case for here."""
  if (benchmark.workdir / "checkpoints").exists():
    raise WorkdirError(f"{benchmark.workdir} holds a training; choose another --workdir for a benchmark.")
  _ = benchmark.names


def run(benchmark: Benchmark) -> None:
  """Measures all cases that are for this platform; what is measured is written after each.

  Raises:
    RuntimeError: two sides do not compute the same.
    WorkdirError: the working directory can't be written.
  """
  records.write(benchmark)
  platform, described = jax.default_backend(), machine.describe()
  peers, missing = benchmark_peers.load(benchmark.fields.peers, platform)
  versions = records.versions() | (dict(peers.versions()) if peers else {}) | benchmark.subject.versions()
  header = _header(described, versions, missing)
  for line in header:
    benchmark.say(line)
  content = {
    "command": benchmark.command,
    "date": _now(),
    "machine": described,
    "platform": platform,
    "devices": [device.device_kind for device in jax.local_devices()],
    "threads": machine.usable_cpus(),
    "versions": versions,
    "peers_missing": missing,
    "schedule": dataclasses.asdict(benchmark.fields.schedule),
  }
  cases, results, peaks = {name: benchmark.cases[name] for name in benchmark.names}, [], {}
  dtypes, sizes = list(dict.fromkeys(case.dtype for case in cases.values())), benchmark.fields.peak.get(platform, ())
  with compiling_afresh():
    for name in cases:
      results.append(_measure(benchmark, name, peers, platform))
      # Again and again: what else the machine does changes, and the best that it was seen to do counts.
      peaks = benchmark_peers.higher(peaks, benchmark_peers.peaks(sizes, dtypes, peers, platform))
      page = markdown(results, peaks, header, accelerator=platform != "cpu")
      numbers = [case_numbers(result, peaks) for result in results]
      _write(benchmark.workdir, {**content, "peak_gflop_per_second": peaks, "cases": numbers}, page)
  benchmark.say("\n" + page)
  benchmark.say(f"Written: {benchmark.workdir / 'benchmark.json'} and benchmark.md")


def _write(workdir: pathlib.Path, content: Mapping[str, Any], page: str) -> None:
  with records.writing(workdir):
    write_json(workdir / "benchmark.json", content)
    with atomic_file(workdir / "benchmark.md") as file:
      file.write(page.encode("utf-8"))


def _measure(benchmark: Benchmark, name: str, peers: Peers | None, platform: str) -> CaseResult:
  """One case; what it compiled is forgotten."""
  case = benchmark.cases[name]
  prepared: Prepared = benchmark.subject.prepare(f"config.cases.{name}", case, peers, platform)
  benchmark.say(f"{name}: {prepared.what}")
  say = lambda line: benchmark.say(f"  {line}")
  common = benchmark.common[name]
  schedule = common.schedule or benchmark.fields.schedule
  sides = measure(prepared.sides, schedule, prepared.tolerance, prepared.reference, prepared.difference, say)
  result = CaseResult(
    name,
    case.dtype,
    prepared.what,
    prepared.flop,
    prepared.formula,
    tuple(sides),
    common.target,
    prepared.clips,
    tuple(prepared.readings()),
  )
  del prepared
  jax.clear_caches()
  if peers is not None:
    peers.release()
  gc.collect()
  return result


def _header(described: Mapping[str, Any], versions: Mapping[str, str], missing: str) -> list[str]:
  """The lines that say what was measured on, with what, and what was not measured."""
  devices = jax.local_devices()
  cpu = f"{described['cpu']} (family/model {described['cpu_family_model']})" if described["cpu_family_model"] else ""
  lines = [
    f"{cpu or described['cpu']}; {', '.join(described['flags']) or 'no telling flags'}",
    f"{machine.usable_cpus()} threads for every side; jax on {len(devices)} x {devices[0].device_kind}",
    f"{_now()}; " + ", ".join(f"{name} {version}" for name, version in versions.items()),
  ]
  if missing:
    lines.append(f"Our sides alone, no target is judged: {missing}")
  load = described.get("load", [0.0])[0]
  if load > _BUSY * machine.usable_cpus():
    lines.append(f"The machine was busy at the start (load {load}): times mislead, ratios do so less.")
  return lines


def _now() -> str:
  return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


@contextlib.contextmanager
def compiling_afresh() -> Iterator[None]:
  """Without the compilation cache on disk: a first call is to show what compiling takes."""
  enabled = jax.config.jax_enable_compilation_cache
  _set_cache(False)
  try:
    yield
  finally:
    _set_cache(enabled)


def _set_cache(enabled: bool) -> None:
  jax.config.update("jax_enable_compilation_cache", enabled)
  compilation_cache.reset_cache()  # jax asks once in a process and remembers the answer
