"""What all jobs share: the checked configuration, the working directory, and what is built from them when needed.

Everything that can be refused without work is refused when the experiment is made: unknown fields, wrong types, values
that are impossible together, a batch that the devices can't share.
"""

import copy
import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh
from rich.console import Console

from gasmcast.core import rules
from gasmcast.core.config import parse, require, to_dict
from gasmcast.core.durations import resolve
from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.types import Dataset
from gasmcast.datasets import something_something
from gasmcast.datasets.generated.moving_objects import Recipe
from gasmcast.jobs.run import Run
from gasmcast.systems import gasmcast as gasmcast_system
from gasmcast.systems.fusion_classifier import require_trainable
from gasmcast.training.config import TrainConfig
from gasmcast.training.optim import OptimConfig, make_schedule
from gasmcast.training.sharding import ShardingConfig, make_mesh
from gasmcast.videos.batches import Source
from gasmcast.videos.pipeline import Clips, DataConfig

# What may differ when a run is resumed: it changes speed, place or reporting, not the result.
_INCIDENTAL_DATA = ("root", "workers", "threads", "prefetch", "cache_bytes")
_INCIDENTAL_STREAM = ("weights", "given")  # where the weights lie: their content is compared instead
_DURATIONS = ("steps", "log_every", "validate_every", "checkpoint_every")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
  """What evaluation looks at.

  Attributes:
    splits: to be evaluated, in this order; the report is about the last one.
    attention_clips: examples whose attention is drawn.
  """

  splits: tuple[str, ...] = ("validation", "test")
  attention_clips: int = 4

  def __post_init__(self):
    unknown = set(self.splits) - set(something_something.SPLITS)
    require(
      bool(self.splits) and not unknown,
      f"config.evaluate.splits = {self.splits}: name one or more of {', '.join(something_something.SPLITS)}.",
    )
    require(self.attention_clips >= 0, f"config.evaluate.attention_clips = {self.attention_clips}; use 0 or more.")


@dataclasses.dataclass(frozen=True)
class _Fields:
  """The top level of a config, still untyped below."""

  job: str
  system: str
  seed: int
  data: dict[str, Any]
  model: dict[str, Any]
  optim: dict[str, Any]
  train: dict[str, Any]
  generate: dict[str, Any] | None = None
  evaluate: dict[str, Any] = dataclasses.field(default_factory=dict)
  sharding: dict[str, Any] = dataclasses.field(default_factory=dict)


class Experiment(Run):
  """A run that is about a system on a data set.

  Raises:
    ConfigError: the configuration can't work.
  """

  def __init__(
    self, config: Mapping[str, Any], workdir: str | os.PathLike, command: str, console: Console | None = None
  ):
    super().__init__(config, workdir, command, console)
    fields = parse(_Fields, dict(self.raw), "config")
    require(fields.system == "gasmcast", f"config.system = {fields.system!r} is no system; use 'gasmcast'.")
    self.job, self.seed = fields.job, fields.seed
    data = dict(fields.data)
    require(
      isinstance(data.get("classes"), int) and data["classes"] >= 2,
      f"config.data.classes = {data.get('classes')!r}: the number of classes is a whole number of at least 2.",
    )
    self.data_root, self.class_count = pathlib.Path(data.pop("root", "")), data.pop("classes")
    self.data = parse(DataConfig, data, "config.data")
    self.recipe = None if fields.generate is None else parse(Recipe, fields.generate, "config.generate")
    self.model = gasmcast_system.parse_model(fields.model)
    self.evaluate = parse(EvaluateConfig, fields.evaluate, "config.evaluate")
    self._fields = fields
    # Wrong fields are refused before the data are there: of a set to be made the number of clips is known.
    config = self._train_config(self.recipe.train // self.data.global_batch if self.recipe else 0)
    self.max_error_share = config.max_error_share
    self._check_model()

  @functools.cached_property
  def mesh(self) -> Mesh:
    """All devices."""
    return make_mesh(self._fields.sharding.get("model", 1))

  def dataset(self, split: str) -> Dataset:
    """One split of the data set.

    Raises:
      DataError: it can't be used, or has another number of classes than the configuration.
    """
    dataset = something_something.load(self.data_root, split)
    classes = len(dataset.classes[gasmcast_system.LABEL])
    if classes != self.class_count:
      raise DataError(
        f"{self.data_root} has {classes} classes and config.data.classes is {self.class_count}; correct either."
      )
    return dataset

  def source(self, dataset: Dataset, augmented: bool = False) -> Source:
    """What batches of this data set are made of; `augmented` for training."""
    return Clips(dataset, self.data, augmented)

  def system(self, class_names: tuple[str, ...]) -> gasmcast_system.GasmCastSystem:
    """The model, its loss and its metrics for these classes."""
    return gasmcast_system.GasmCastSystem(self.model, class_names)

  def train_config(self, train: Dataset) -> TrainConfig:
    """The training with its durations in steps of this data set."""
    return self._train_config(max(1, len(train.examples) // self.data.global_batch))

  def parameters(self) -> dict[str, dict[str, int]]:
    """Part of the model -> {"trainable": parameters, "frozen": parameters}; the parts of the fusion one by one."""
    flat = rules.flatten(self.abstract_variables["params"])
    trained = rules.match(list(flat), self.any_system.trainable, "config.model")
    parts: dict[str, dict[str, int]] = {}
    for name, leaf in flat.items():
      depth = 2 if name.startswith("fusion/") else 1
      part = parts.setdefault("/".join(name.split("/")[:depth]), {"trainable": 0, "frozen": 0})
      part["trainable" if trained[name] else "frozen"] += math.prod(leaf.shape)
    return parts

  def with_weights(self) -> tuple["Experiment", gasmcast_system.Pretrained]:
    """The weights of the backbones, and the experiment with the sizes that they have.

    Raises:
      WeightsError: weights that can't be had or read, or that are of another network.
      ConfigError: with these sizes the model is impossible, or beyond its budget.
    """
    pretrained = gasmcast_system.load_pretrained(self.model)
    if pretrained.model == self.model:
      return self, pretrained
    sized = copy.copy(self)
    sized.model = pretrained.model
    for name in ("any_system", "abstract_variables"):  # of the sizes before
      sized.__dict__.pop(name, None)
    sized._check_model()
    return sized, pretrained

  def identity(self, train: Dataset, pretrained: gasmcast_system.Pretrained) -> dict[str, Any]:
    """What decides the result of a run beside its TrainConfig: a working directory is resumed only if this is equal."""
    data = {key: value for key, value in to_dict(self.data).items() if key not in _INCIDENTAL_DATA}
    model = to_dict(self.model)
    for stream in ("semantic", "motion"):
      model[stream] = {key: value for key, value in model[stream].items() if key not in _INCIDENTAL_STREAM}
    return {"config": {"data": data, "model": model}, "data": train.fingerprint, **pretrained.identity()}

  def _train_config(self, steps_per_epoch: int) -> TrainConfig:
    known, steps_per_epoch = steps_per_epoch > 0, max(1, steps_per_epoch)
    values = resolve(self._fields.train, steps_per_epoch, "config.train", _DURATIONS)
    for name in {"seed", "optim", "sharding"} & set(values):
      raise ConfigError(f"config.train.{name} is not a field; set config.{name}.")
    optim = resolve(self._fields.optim, steps_per_epoch, "config.optim", ("warmup_steps",))
    config = dataclasses.replace(
      parse(TrainConfig, values, "config.train"),
      seed=self.seed,
      optim=parse(OptimConfig, optim, "config.optim"),
      sharding=parse(ShardingConfig, self._fields.sharding, "config.sharding"),
    )
    if known:
      make_schedule(config.optim, config.steps)  # refuses a warm-up that is longer than the training
    return config

  def check_batch(self) -> None:
    """Refuses a batch that the devices can't share."""
    devices, batch = self.mesh.shape["data"], self.data.global_batch
    require(
      batch % devices == 0,
      f"config.data.global_batch = {batch} is not divisible by the {devices} devices of the data axis; use a multiple "
      f"of {devices}, for example {-(-batch // devices) * devices}.",
    )

  def _check_model(self) -> None:
    """Traces the model without allocating anything: impossible shapes and a blown budget are refused here."""
    params = self.abstract_variables["params"]
    if self.model.max_trainable:
      trained, _ = rules.partition(params, self.any_system.trainable, "config.model")
      parts = {name.removeprefix("fusion/"): leaf for name, leaf in trained.items()}
      require_trainable(rules.unflatten(parts), self.model.max_trainable)

  @functools.cached_property
  def any_system(self) -> gasmcast_system.GasmCastSystem:
    """The system for the configured number of classes, their names being their numbers."""
    return self.system(tuple(map(str, range(self.class_count))))

  @functools.cached_property
  def abstract_variables(self) -> Any:
    """Names, shapes and types of all variables; nothing is allocated."""
    batch = gasmcast_system.example_batch(self.data.frames, self.data.size)
    return jax.eval_shape(self.any_system.init, jax.random.key(0), batch)
