"""Job count: what each part of a model consists of, what rules make of it and what it takes in memory.

Nothing is allocated: all numbers come from shapes. Writes count.json and count.md.
"""

import dataclasses
import functools
import math
import os
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from gasmcast.core import rules
from gasmcast.core.config import parse, require
from gasmcast.core.durations import resolve
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.core.types import PyTree
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.run import Run
from gasmcast.reports import parameters as report
from gasmcast.systems import ocean_network, verb_noun_network
from gasmcast.systems.fusion_classifier import AUXILIARY
from gasmcast.training import parameter_table
from gasmcast.training.optim import OptimConfig, make_optimizer
from gasmcast.training.treatment import Treatment, treat


@dataclasses.dataclass(frozen=True)
class Model:
  """What is counted.

  Attributes:
    title: what it is, in words.
    variables: names, shapes and types of everything, {"params": ..., "batch_stats": ...}.
    trainable: the rules of its system.
    optim: what trains it.
    average: whether training keeps a running average of the parameters.
    max_trainable: budget of trainable parameters; 0 is none.
    divided: the parts that are told module by module.
    training_only: what the names of parts begin with that are not there at inference; "" for none.
  """

  title: str
  variables: PyTree = dataclasses.field(repr=False)
  trainable: rules.Rules
  optim: OptimConfig
  average: bool = False
  max_trainable: int = 0
  divided: tuple[str, ...] = ()
  training_only: str = ""

  @functools.cached_property
  def params(self) -> dict[str, jax.ShapeDtypeStruct]:
    """All parameters by name."""
    return rules.flatten(self.variables["params"])

  @functools.cached_property
  def treatments(self) -> dict[str, Treatment]:
    """What is done with each. Raises ConfigError as `training.treatment.treat`."""
    return treat(list(self.params), self.trainable, self.optim)


@dataclasses.dataclass(frozen=True)
class _Fields:
  """The top level of a config of a system that can be counted and not trained yet."""

  job: str
  system: str
  model: dict[str, Any]
  optim: dict[str, Any]


def _gasmcast(run: Run) -> Model:
  experiment = Experiment(run.raw, run.workdir, run.command, run.console)
  stored = "" if experiment.store_folder is None else ", on stored features"
  return Model(
    f"gasmcast for {experiment.class_count} classes{stored}",
    experiment.abstract_variables,
    experiment.any_system.trainable,
    experiment.optim,
    experiment.average_decay > 0,
    experiment.model.max_trainable,
    divided=("fusion",),
    training_only=f"fusion/{AUXILIARY}",
  )


def _network(run: Run, network: ModuleType, divided: tuple[str, ...]) -> Model:
  """Of a module of systems/ that has `parse_model`, `abstract_variables` and `trainable`."""
  fields = parse(_Fields, run.raw, "config")
  model = network.parse_model(fields.model)
  optim = resolve(fields.optim, 1, "config.optim", ("warmup_steps", "cycle_steps"))  # no number depends on an epoch
  optim = parse(OptimConfig, optim, "config.optim")
  return Model(
    fields.system,
    network.abstract_variables(model),
    network.trainable(model),
    optim,
    max_trainable=model.max_trainable,
    divided=divided,
  )


SYSTEMS: Mapping[str, Callable[[Run], Model]] = {
  "gasmcast": _gasmcast,
  "ocean": functools.partial(_network, network=ocean_network, divided=("cross_attention", "fusion", "head")),
  "verb_noun": functools.partial(_network, network=verb_noun_network, divided=("temporal",)),
}


class Setup(Run):
  """A run whose model is counted.

  Raises:
    ConfigError: the configuration can't work, or the model is beyond its budget.
  """

  systems = tuple(SYSTEMS)

  def __init__(
    self, config: Mapping[str, Any], workdir: str | os.PathLike, command: str, console: Console | None = None
  ):
    super().__init__(config, workdir, command, console)
    system = self.raw.get("system")
    require(system in SYSTEMS, f"config.system = {system!r} is no system; use {', '.join(SYSTEMS)}.")
    self.model = SYSTEMS[system](self)
    self.result = measure(self.model)
    trained, limit = self.result["all"]["trainable"], self.model.max_trainable
    require(
      not limit or trained <= limit,
      f"config.model.max_trainable = {limit:,}: {trained:,} parameters would be trained; make the model smaller, raise "
      "the limit, or set it to 0 for none.",
    )


SETUP = Setup


def check(setup: Setup) -> None:
  """A setup that could be made can be counted."""


def run(setup: Setup) -> None:
  """Prints the tables and writes them.

  Raises:
    WorkdirError: the folder can't be written.
  """
  if jax.process_index():
    return
  model, console = setup.model, setup.console
  result = {"title": f"Parameters of {model.title}", **setup.result}
  result["meta"] = {"command": setup.command, "config": setup.raw, "versions": records.versions()}
  console.print(_shown(report.COLUMNS, report.parts_table(result), result["title"]))
  console.print(parameter_table.table(model.params, model.treatments, "What config.optim makes of them"))
  console.print(_shown(report.BYTES, report.bytes_table(result), "Arrays in memory"))
  for note in report.notes(result):
    console.print(note, highlight=False, markup=False)
  with records.writing(setup.workdir):
    write_json(setup.workdir / "count.json", result)
    with atomic_file(setup.workdir / "count.md") as file:
      file.write(report.markdown(result).encode("utf-8"))


def measure(model: Model) -> dict[str, Any]:
  """The numbers of count.json.

  Returns:
    "parts" and "training_only" {name: {"trainable", "frozen", "buffers"}}, "all": the sums over "parts"; "budget";
    "bytes" {"training": {"parameters", ..., "all"}, "inference": {"float32", "bfloat16"}}.
  """
  parts = count_parts(model)
  extra = {name: part for name, part in parts.items() if model.training_only and name.startswith(model.training_only)}
  counted = {name: part for name, part in parts.items() if name not in extra}
  sums = {kind: sum(part[kind] for part in counted.values()) for kind in report.COLUMNS[1:]}
  used = sum(sums.values())
  return {
    "parts": counted,
    "all": sums,
    "training_only": extra,
    "budget": model.max_trainable,
    "bytes": {"training": training_bytes(model), "inference": {"float32": 4 * used, "bfloat16": 2 * used}},
  }


def count_parts(model: Model) -> dict[str, dict[str, int]]:
  """Part -> {"trainable", "frozen", "buffers"}, the numbers that it consists of."""
  parts: dict[str, dict[str, int]] = {}
  for collection, tree in model.variables.items():
    for name, leaf in rules.flatten(tree).items():
      levels = name.split("/")
      part = "/".join(levels[: 2 if levels[0] in model.divided else 1])
      kind = "buffers" if collection != "params" else "trainable" if model.treatments[name].trained else "frozen"
      parts.setdefault(part, dict.fromkeys(report.COLUMNS[1:], 0))[kind] += math.prod(leaf.shape)
  return dict(sorted(parts.items()))


def training_bytes(model: Model) -> dict[str, int]:
  """Bytes of what a training keeps from step to step, of its gradients, and of "all" together."""
  trained = {name: leaf for name, leaf in model.params.items() if model.treatments[name].trained}
  optim = model.optim  # its state is that of any number of steps, which only have to hold warm-up and cycle
  optimizer, _ = make_optimizer(optim, optim.warmup_steps + optim.cycle_steps + 1)
  held = {
    "parameters": _bytes(model.params),
    "buffers": _bytes({name: tree for name, tree in model.variables.items() if name != "params"}),
    "gradients": _bytes(trained),
    "optimizer": _bytes(jax.eval_shape(optimizer.init, trained)),
  }
  if model.average:
    held["average"] = _bytes(trained)
  return held | {"all": sum(held.values())}


def _bytes(tree: PyTree) -> int:
  return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _shown(columns: tuple[str, ...], sections: report.Sections, title: str) -> Table:
  table = Table(title=title, title_justify="left")
  for column in columns:
    table.add_column(column, justify="left" if column == columns[0] else "right")
  for section in sections:
    table.add_section()
    for row in section:
      table.add_row(*row)
  return table
