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
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from gasmcast.core import rules
from gasmcast.core.config import parse, require, to_dict
from gasmcast.core.durations import resolve
from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.types import Dataset
from gasmcast.datasets import table as datasets
from gasmcast.datasets.generated.moving_objects import Recipe
from gasmcast.datasets.labels import mirrored_pairs
from gasmcast.features.streams import GIVEN
from gasmcast.fusion.config import StreamShapes
from gasmcast.jobs import extraction
from gasmcast.jobs.run import Run
from gasmcast.store.feature_store import FeatureStore, find
from gasmcast.store.source import StoredFeatures, split_name
from gasmcast.systems.fusion_classifier import require_trainable, stream_shapes
from gasmcast.systems.gasmcast import LABEL, GasmCastSystem, example_batch
from gasmcast.systems.gasmcast_config import parse_model
from gasmcast.systems.gasmcast_network import Pretrained, load_pretrained, select_tokens
from gasmcast.training import warm_start
from gasmcast.training.config import TrainConfig
from gasmcast.training.optim import OptimConfig, make_schedule
from gasmcast.training.sharding import ShardingConfig, make_mesh
from gasmcast.training.treatment import Treatment, partition, treat
from gasmcast.training.warm_start import InitConfig
from gasmcast.videos.batches import Source
from gasmcast.videos.pipeline import Clips, DataConfig

# What may differ when a run is resumed: it changes speed, place or reporting, not the result.
_INCIDENTAL_DATA = ("root", "workers", "threads", "prefetch", "cache_bytes", "cache_eviction")
_INCIDENTAL_STREAM = ("weights", "given")  # where the weights lie: their content is compared instead
T = TypeVar("T")
_DURATIONS = ("steps", "log_every", "validate_every", "checkpoint_every")


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
  init: dict[str, Any] = dataclasses.field(default_factory=dict)
  generate: dict[str, Any] | None = None
  evaluate: dict[str, Any] = dataclasses.field(default_factory=dict)
  extract: dict[str, Any] = dataclasses.field(default_factory=dict)
  predict: dict[str, Any] = dataclasses.field(default_factory=dict)
  folds: dict[str, Any] = dataclasses.field(default_factory=dict)
  fidelity: dict[str, Any] = dataclasses.field(default_factory=dict)
  search: dict[str, Any] = dataclasses.field(default_factory=dict)
  ablate: dict[str, Any] = dataclasses.field(default_factory=dict)
  engine: str = "local"
  cluster: dict[str, Any] = dataclasses.field(default_factory=dict)
  sharding: dict[str, Any] = dataclasses.field(default_factory=dict)


class Experiment(Run):
  """A run that is about a system on a data set.

  Raises:
    ConfigError: the configuration can't work.
  """

  systems = ("gasmcast",)  # values of config.system

  def __init__(
    self, config: Mapping[str, Any], workdir: str | os.PathLike, command: str, console: Console | None = None
  ):
    super().__init__(config, workdir, command, console)
    fields = parse(_Fields, dict(self.raw), "config")
    require(fields.system in self.systems, f"config.system = {fields.system!r} is no system; use 'gasmcast'.")
    self.job, self.seed = fields.job, fields.seed
    data = dict(fields.data)
    require(
      isinstance(data.get("classes"), int) and data["classes"] >= 2,
      f"config.data.classes = {data.get('classes')!r}: the number of classes is a whole number of at least 2.",
    )
    self.data_root, self.class_count = pathlib.Path(data.pop("root", "")), data.pop("classes")
    self.data_name, self.store_folder = data.pop("dataset", "something_something"), data.pop("store", None)
    self.data_options = data.pop("options", None) or {}
    known = datasets.DATASETS
    require(self.data_name in known, f"config.data.dataset = {self.data_name!r}: use one of {', '.join(known)}.")
    self.gives_features = datasets.gives_features(self.data_name)
    self.data = parse(DataConfig, data, "config.data")
    self.recipe = None if fields.generate is None else parse(Recipe, fields.generate, "config.generate")
    self.model = parse_model(fields.model)
    self._fields, self._stored = fields, False
    self.init, self.start = parse(InitConfig, fields.init, "config.init"), None
    self.cluster = {"engine": fields.engine, **fields.cluster}
    # Wrong fields are refused before the data are there: of a set to be made the number of clips is known.
    config = self._train_config(self.recipe.train // self.data.global_batch if self.recipe else 0)
    self.max_error_share, self.average_decay, self.optim = config.max_error_share, config.average_decay, config.optim
    self._check_origin()
    self._check_store()
    self._check_model()

  def section(self, name: str, fields: type[T]) -> T:
    """The fields of one job, which are checked when it is: `config.<name>` as the dataclass `fields`.

    Raises:
      ConfigError: an unknown or impossible field.
    """
    return parse(fields, getattr(self._fields, name), f"config.{name}")

  @functools.cached_property
  def mesh(self) -> Mesh:
    """All devices."""
    return make_mesh(self._fields.sharding.get("model", 1))

  def dataset(self, split: str) -> Dataset:
    """One split of the data set.

    Raises:
      DataError: it can't be used, has no actions, or another number of classes than the configuration.
    """
    dataset = datasets.load(self.data_name, self.data_root, split, **self.data_options)
    if LABEL not in dataset.classes:
      raise DataError(
        f"{self.data_root}: {self.data_name} has the labels {', '.join(dataset.classes) or 'none'} and the system "
        f"needs {LABEL!r}; use a data set that has it (config.data.dataset)."
      )
    classes = len(dataset.classes[LABEL])
    if classes != self.class_count:
      raise DataError(
        f"{self.data_root} has {classes} classes and config.data.classes is {self.class_count}; correct either."
      )
    return dataset

  def source(self, dataset: Dataset, augmented: bool = False) -> Source:
    """What batches of this data set are made of: videos, stored features or its own; `augmented` for training.

    Raises:
      DataError: the store has no features of this data set, or not all of them yet.
    """
    if self.gives_features:
      return datasets.features(self.data_name, dataset, **self.data_options)
    if self.store_folder is None:
      return self.clips(dataset, augmented)
    return StoredFeatures(dataset, (self.store.reader(split_name(dataset)),))

  def clips(self, dataset: Dataset, augmented: bool = False) -> Clips:
    """The videos of a data set. Raises as `require_videos`."""
    self.require_videos()
    return Clips(dataset, self.data, augmented)

  def require_videos(self) -> None:
    """Raises ConfigError if the data set holds features."""
    require(
      not self.gives_features,
      f"config.data.dataset = {self.data_name!r} holds features and no videos; choose a job that needs none, or "
      "another data set.",
    )

  @functools.cached_property
  def store(self) -> FeatureStore:
    """The stored features of these backbones and clips, in `config.data.store`.

    Raises:
      DataError: there are none; the message names what differs.
    """
    return find(self.store_folder, extraction.wanted(self.model, self.data))

  def system(self, train: Dataset) -> GasmCastSystem:
    """The model, its loss and its metrics, for the classes of a training set, their numbers and their directions."""
    names = train.classes[LABEL]
    labels = [example.labels.get(LABEL, len(names)) for example in train.examples]
    counts = np.bincount(labels, minlength=len(names))[: len(names)]
    return GasmCastSystem(self.model, names, tuple(counts.tolist()), _directions(train))

  def train_config(self, train: Dataset) -> TrainConfig:
    """The training with its durations in steps of this data set."""
    return self._train_config(max(1, len(train.examples) // self.data.global_batch))

  @property
  def treatments(self) -> dict[str, Treatment]:
    """What is done with each parameter.

    Raises:
      ConfigError: see `training.treatment.treat`.
    """
    names = list(rules.flatten(self.abstract_variables["params"]))
    return treat(names, self.any_system.trainable, self.optim)

  def parameters(self) -> dict[str, dict[str, int]]:
    """Part of the model -> {"trainable": parameters, "frozen": parameters}; the parts of the fusion one by one."""
    flat, treatments = rules.flatten(self.abstract_variables["params"]), self.treatments
    parts: dict[str, dict[str, int]] = {}
    for name, leaf in flat.items():
      depth = 2 if name.startswith("fusion/") else 1
      part = parts.setdefault("/".join(name.split("/")[:depth]), {"trainable": 0, "frozen": 0})
      part["trainable" if treatments[name].trained else "frozen"] += math.prod(leaf.shape)
    return parts

  def with_weights(self, stored: bool = True) -> tuple["Experiment", Pretrained]:
    """The weights that the model begins with, and the experiment with the sizes that they have.

    They are those of the backbones and, over them, what `config.init.weights` names (`start` of the experiment). Of a
    training on stored features the sizes come from the store, and backbones have no weights, unless `stored` is False.

    Raises:
      WeightsError: weights that can't be had or read, or that are of another network.
      ConfigError: with these sizes the model is impossible, or beyond its budget.
    """
    stored = stored and self.store_folder is not None
    if self.gives_features:
      told = {"name": GIVEN, "origin": f"features of the data set {self.data_name!r}"}
      pretrained = Pretrained(self.model, {}, {name: told for name in self.model.streams()})
    elif stored:
      pretrained = extraction.pretrained(self.model, self.store)
    else:
      pretrained = load_pretrained(self.model)
    sized = copy.copy(self)
    sized.model, sized._stored = pretrained.model, stored
    for name in ("any_system", "abstract_variables"):  # of the sizes before
      sized.__dict__.pop(name, None)
    sized._check_model()
    if self.init.weights is None:
      return sized, pretrained
    sized.start = warm_start.start(self.init, sized.abstract_variables, pretrained.variables)
    variables = rules.flatten(pretrained.variables) | rules.flatten(sized.start.variables)
    return sized, dataclasses.replace(pretrained, variables=rules.unflatten(variables))

  def identity(self, train: Dataset, validation: Dataset, pretrained: Pretrained | None = None) -> dict[str, Any]:
    """What decides the result of a run beside its TrainConfig: a working directory is resumed only if this is equal.

    The validation decides which step is the best, and when training stops early. Without `pretrained` the content of
    the weights is not in it.
    """
    data = {key: value for key, value in to_dict(self.data).items() if key not in _INCIDENTAL_DATA}
    model = to_dict(self.model)
    for stream in ("semantic", "motion"):
      model[stream] = {key: value for key, value in model[stream].items() if key not in _INCIDENTAL_STREAM}
    store = {} if self.store_folder is None else {"store": self.store.fingerprint}
    sets = {"data": train.fingerprint, "validation": validation.fingerprint}
    weights = {} if pretrained is None else pretrained.identity() | {"init": self.start and self.start.fingerprint}
    if self.model.mixing.active:
      sets["kept_apart"] = to_dict(_directions(train))
    return {"config": {"data": data, "model": model}, **sets, **store, **weights}

  def _train_config(self, steps_per_epoch: int) -> TrainConfig:
    known, steps_per_epoch = steps_per_epoch > 0, max(1, steps_per_epoch)
    values = resolve(self._fields.train, steps_per_epoch, "config.train", _DURATIONS)
    for name in {"seed", "optim", "sharding"} & set(values):
      raise ConfigError(f"config.train.{name} is not a field; set config.{name}.")
    optim = resolve(self._fields.optim, steps_per_epoch, "config.optim", ("warmup_steps", "cycle_steps"))
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

  def _check_origin(self) -> None:
    """A data set of features needs streams without networks, any other one needs networks."""
    for name, stream in self.model.streams().items():
      require(
        (stream.name == GIVEN) == self.gives_features,
        f"config.model.{name}.name = {stream.name!r} with config.data.dataset = {self.data_name!r}: "
        + ("its features are given; use 'given'." if self.gives_features else "it holds videos; name a backbone."),
      )
    require(
      not (self.gives_features and self.store_folder),
      f"config.data.store = {self.store_folder!r} with config.data.dataset = {self.data_name!r}, which holds features "
      "itself; leave the store at None.",
    )

  def _check_store(self) -> None:
    """Stored features are those of frozen backbones, and have no pixels."""
    cutmix = self.model.mixing.cutmix
    require(
      self.store_folder is None or cutmix == 0,
      f"config.model.mixing.cutmix = {cutmix} with config.data.store = {self.store_folder!r}: a rectangle of one clip "
      "can't be put into the stored features of another; set it to 0 and use config.model.mixing.mixup, or set "
      "config.data.store to None to train on videos.",
    )
    for name, stream in self.model.streams().items() if self.store_folder is not None else ():
      require(
        not stream.trainable,
        f"config.data.store = {self.store_folder!r} with config.model.{name}.trainable = True: stored features are "
        "those of a frozen backbone; set trainable to False, or config.data.store to None to train on videos.",
      )

  def _check_model(self) -> None:
    """Traces the model without allocating anything: impossible shapes, rules and a blown budget are refused here."""
    trained, _ = partition(self.abstract_variables["params"], self.any_system.trainable, self.optim)
    if self.model.max_trainable:
      parts = {name.removeprefix("fusion/"): leaf for name, leaf in trained.items()}
      require_trainable(rules.unflatten(parts), self.model.max_trainable)

  @functools.cached_property
  def any_system(self) -> GasmCastSystem:
    """The system for the configured number of classes, their names being their numbers."""
    return GasmCastSystem(self.model, tuple(map(str, range(self.class_count))))

  @functools.cached_property
  def abstract_variables(self) -> Any:
    """Names, shapes and types of all variables; nothing is allocated."""
    return self.any_system.abstract_variables(self.example_batch())

  def example_batch(self, rows: int = 1) -> dict[str, np.ndarray]:
    """A batch of the right shapes: of frames, of what the frozen backbones make of them where there is a store, or of
    the data set's own features."""
    batch = example_batch(self.data.frames, self.data.size, rows)
    if self.store_folder is None and not self.gives_features:
      return batch
    del batch["frames"]
    return batch | {name: np.zeros((rows, *shape), np.float32) for name, shape in self.feature_shapes().items()}

  def feature_shapes(self) -> dict[str, tuple[int, ...]]:
    """Stream -> shape of a clip's features: those of the data set or the store, else what the backbones make of it."""
    if self.gives_features:
      given = datasets.feature_shapes(self.data_name, **self.data_options)
      return {name: given[name] for name in self.model.streams()}
    if self._stored:
      return {name: tuple(self.store.description[name]["shape"]) for name in self.model.streams()}
    return extraction.feature_shapes(self.model, self.data.frames, self.data.size)  # a store may still have to be made

  def fusion_shapes(self) -> StreamShapes:
    """The sizes that the fusion works on."""
    batched = {name: jax.ShapeDtypeStruct((1, *shape), np.float32) for name, shape in self.feature_shapes().items()}
    selected = jax.eval_shape(functools.partial(select_tokens, self.model), batched)
    return stream_shapes({name: leaf.shape[1:] for name, leaf in selected.items()})


def _directions(train: Dataset) -> tuple[tuple[int, int], ...]:
  """Pairs of classes that differ in direction alone: those the data set lists, and those that their names tell."""
  names = train.classes[LABEL]
  listed = train.pairs.values() if next(iter(train.classes)) == LABEL else ()  # they are of the first
  return tuple(sorted({tuple(sorted(pair)) for pairs in listed for pair in pairs} | set(mirrored_pairs(names))))
