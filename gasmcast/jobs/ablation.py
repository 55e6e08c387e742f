"""What `config.ablate` asks for: a grid of trainings, checked before the first of them begins.

A variant and a setting name the fields in which they differ from the configuration, as a tree like the configuration
itself. Each variant is trained on each setting with each seed, and with each point of `search`, which is the same for
all: no variant is tuned more than another.
"""

import dataclasses
import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

from rich.console import Console

from gasmcast.core.config import require, to_dict
from gasmcast.core.errors import ConfigError
from gasmcast.core.manifest import hash_json
from gasmcast.datasets.dataset import SPLITS
from gasmcast.datasets.generated.ceilings import VIEWS, ceiling
from gasmcast.datasets.generated.feature_sets import FeatureRecipe
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.search_command import trial_command
from gasmcast.jobs.search_space import frozen, with_values

RUNS = "runs"
_NOT_OF_A_RUN = ("ablate", "search", "job")


@dataclasses.dataclass(frozen=True)
class Variant:
  """One way to do it.

  Attributes:
    name: in the table.
    fields: in which it differs from the configuration.
    view: what it can see of a clip at most (`datasets.generated.ceilings`), where that is known.
  """

  name: str
  fields: dict[str, Any] = dataclasses.field(default_factory=dict)
  view: str = "everything"

  def __post_init__(self):
    require(self.view in VIEWS, f"view = {self.view!r} is none; use one of {', '.join(VIEWS)}.")


@dataclasses.dataclass(frozen=True)
class Setting:
  """One data set, or size, on which all variants are tried: the fields in which it differs."""

  name: str
  fields: dict[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class AblateConfig:
  """A grid of trainings.

  Attributes:
    question: what the table answers, its title.
    variants: the rows.
    reference: the variant that the others are compared with.
    settings: the data sets; by default the one of the configuration.
    seeds: of every variant on every setting.
    search: trees of fields that are tried with every variant alike; for each variant and setting the point with the
      best mean over the seeds on validation is the one that is reported.
    metric: the number that is compared, of metrics.json; more is better.
    split: whose number is reported.
    workers: processes of this machine, each with a run of its own.
    gpus: of each worker; 0 where there is none, or one worker has them all.
  """

  variants: tuple[Variant, ...]
  reference: str
  question: str = "Ablation"
  settings: tuple[Setting, ...] = (Setting("config"),)
  seeds: tuple[int, ...] = (0, 1, 2)
  search: tuple[dict[str, Any], ...] = ({},)
  metric: str = "top1"
  split: str = "test"
  workers: int = 1
  gpus: int = 0

  def __post_init__(self):
    for kind in ("variants", "settings"):
      names = [one.name for one in getattr(self, kind)]
      slugs = [slug(name) for name in names]
      require(bool(names) and all(slugs), f"config.ablate.{kind} = {names}: name one or more, with letters or digits.")
      require(
        len(set(slugs)) == len(slugs), f"config.ablate.{kind} = {names}: two names give one folder; tell them apart."
      )
    names = [one.name for one in self.variants]
    require(
      self.reference in names,
      f"config.ablate.reference = {self.reference!r} is none of the variants {', '.join(map(repr, names))}.",
    )
    for kind in ("seeds", "search"):
      values = getattr(self, kind)
      require(
        len({repr(value) for value in values}) == len(values) > 0,
        f"config.ablate.{kind} = {values}: give one or more, each once.",
      )
    require(self.split in SPLITS, f"config.ablate.split = {self.split!r}: use one of {', '.join(SPLITS)}.")
    require(self.workers >= 1, f"config.ablate.workers = {self.workers}: it must be at least 1.")
    require(self.gpus >= 0, f"config.ablate.gpus = {self.gpus}: it must be at least 0.")


def slug(name: str) -> str:
  """The name of a folder for a name of the table."""
  return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")


@dataclasses.dataclass(frozen=True)
class Cell:
  """One training of the grid.

  Attributes:
    setting, variant: by name.
    point: its number in `AblateConfig.search`.
    seed: of the run.
    folder: its working directory, below that of the ablation.
    values: dotted name -> value of every field in which it differs from the configuration.
  """

  setting: str
  variant: str
  point: int
  seed: int
  folder: pathlib.PurePath
  values: Mapping[str, Any]


class Plan:
  """The ablation of an experiment.

  Attributes:
    config: as given.
    cells: all trainings: settings, variants, points and seeds in their order.

  Raises:
    ConfigError: the section is missing or impossible, or names a field that the configuration does not have.
  """

  def __init__(self, experiment: Experiment):
    require(
      bool(experiment.raw.get("ablate")),
      "config.ablate is missing: job ablate needs variants, see configs/ablations.",
    )
    self._experiment, self._identities = experiment, {}
    self._shared = {name: value for name, value in experiment.raw.items() if name not in _NOT_OF_A_RUN}
    self.config = experiment.section("ablate", AblateConfig)
    self.cells = tuple(self._cells())

  def _cells(self) -> Iterator[Cell]:
    config, raw = self.config, self._shared
    points = list(enumerate(config.search))
    for setting, variant, (number, point) in itertools.product(config.settings, config.variants, points):
      values = {}
      for where, fields in (
        (f"settings[{setting.name!r}]", setting.fields),
        (f"variants[{variant.name!r}]", variant.fields),
        (f"search[{number}]", point),
      ):
        values |= dict(leaves(fields, raw, f"config.ablate.{where}"))
      folder = pathlib.PurePath(RUNS, slug(setting.name), slug(variant.name))
      folder = folder / f"point{number}" if len(points) > 1 else folder
      for seed in config.seeds:
        yield Cell(setting.name, variant.name, number, seed, folder / f"seed{seed}", values | {"seed": seed})

  def raw(self, cell: Cell) -> dict[str, Any]:
    """The configuration of a training."""
    splits = tuple(dict.fromkeys(("validation", self.config.split)))
    evaluate = {"splits": splits, "attention_clips": 0}
    return with_values(self._shared, cell.values) | {"job": "train,evaluate", "evaluate": evaluate}

  def experiment(self, cell: Cell, console: Console) -> Experiment:
    """The experiment of a training, in its own working directory.

    Raises:
      ConfigError: the variant is impossible with this setting; the message names both.
    """
    folder = self._experiment.workdir / cell.folder
    command = trial_command(self._experiment.command, folder, "train,evaluate", cell.values)
    try:
      part = Experiment(self.raw(cell), folder, command, console)
      part.check_batch()
    except ConfigError as error:
      raise ConfigError(f"The variant {cell.variant!r} on {cell.setting!r}: {error}") from error
    return part

  def identity(self, cell: Cell) -> str:
    """Hash of all that decides the result of a training."""
    if cell.folder not in self._identities:
      self._identities[cell.folder] = hash_json(to_dict(self.raw(cell)))
    return self._identities[cell.folder]

  def ceiling(self, setting: str, variant: str) -> Fraction | None:
    """What the variant can reach at most on a data set whose ceilings are known; None on another one."""
    cell = next(cell for cell in self.cells if (cell.setting, cell.variant) == (setting, variant))
    data = self.raw(cell)["data"]
    if data.get("dataset") != "feature_sets":
      return None
    view = next(one.view for one in self.config.variants if one.name == variant)
    return ceiling(FeatureRecipe(**data["options"]).make_task(), view)


def leaves(tree: Mapping[str, Any], config: Any, where: str, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
  """(dotted name, value) of a tree of fields that the configuration has.

  Raises:
    ConfigError: it has no such field.
  """
  for key, value in tree.items():
    name = ".".join((*path, str(key)))
    require(
      isinstance(config, Mapping) and key in config,
      f"{where}: config.{name} is not a field of the configuration; write the name as it stands there.",
    )
    if isinstance(value, Mapping) and isinstance(config[key], Mapping):
      yield from leaves(value, config[key], where, (*path, str(key)))
    else:
      yield name, frozen(value)
