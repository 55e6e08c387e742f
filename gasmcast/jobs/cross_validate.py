"""Job cross_validate: linear probes and the model on the same folds of stored features, several seeds.

For small data sets, where one split says little: all examples of the named splits are divided into folds that share no
group, and each is held out once. A training has a fixed number of steps and is scored as it ends, so nothing is chosen
on the fold that is held out. Every seed divides anew and trains anew.

Writes folds.json (every number) and folds.md (the table).
"""

import copy
import dataclasses
import io
from typing import Any, Literal

import jax
import numpy as np
from jaxtyping import Float, Int
from rich.console import Console

from gasmcast.core.config import require
from gasmcast.core.errors import ConfigError, DataError, Stopped
from gasmcast.core.manifest import atomic_file, hash_json, write_json
from gasmcast.core.types import Dataset
from gasmcast.datasets.dataset import require_labels
from gasmcast.datasets.folds import grouped_folds
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.metrics.probes import linear_probe
from gasmcast.store.compression import decompress, parts_of
from gasmcast.store.source import StoredFeatures, split_name
from gasmcast.systems.gasmcast import LABEL
from gasmcast.training.loop import fit
from gasmcast.videos.batches import evaluation_batches, train_batches


@dataclasses.dataclass(frozen=True)
class FoldsConfig:
  """What is cross-validated.

  Attributes:
    folds: each is held out once.
    seeds: of the division and of the training.
    splits: whose examples are divided.
    streams: of the models that are trained, "semantic", "motion", "both".
    strength: inverse of the L2 penalty of the linear probes.
  """

  folds: int = 5
  seeds: tuple[int, ...] = (0, 1, 2)
  splits: tuple[str, ...] = ("train", "validation")
  streams: tuple[Literal["semantic", "motion", "both"], ...] = ("semantic", "motion", "both")
  strength: float = 1.0

  def __post_init__(self):
    require(self.folds >= 2, f"config.folds.folds = {self.folds}: at least 2 are needed.")
    require(bool(self.seeds) and bool(self.splits), "config.folds.seeds, config.folds.splits: name at least one each.")
    require(self.strength > 0, f"config.folds.strength = {self.strength}: it must be above 0.")


def check(experiment: Experiment) -> None:
  """Refuses a configuration without a store, and one that is impossible for one of the models."""
  require(
    experiment.store_folder is not None,
    "config.data.store is not set: folds are trained on stored features; run --job extract and name its store.",
  )
  for streams in experiment.section("folds", FoldsConfig).streams:
    try:
      _model(experiment, streams)
    except ConfigError as error:
      raise ConfigError(f"The model with config.folds.streams {streams!r}: {error}") from error
  experiment.check_batch()


def run(experiment: Experiment) -> None:
  """Probes, then trainings, fold by fold; a run that was interrupted goes on.

  Raises:
    DataError: no store, examples without a group, or examples that can't be read.
    ConfigError: scikit-learn is missing, or a model that is impossible.
    Stopped: told to stop; the same command resumes.
  """
  config = experiment.section("folds", FoldsConfig)
  parents = [experiment.dataset(split) for split in config.splits]
  for parent in parents:
    require_labels(parent)
  _check_components(experiment)
  records.write(experiment)
  readers = tuple(experiment.store.reader(split_name(parent)) for parent in parents)
  whole = _join(parents)
  labels = np.array([example.labels[LABEL] for example in whole.examples])
  groups = [example.group for example in whole.examples]
  divided = {seed: grouped_folds(labels.tolist(), groups, config.folds, seed) for seed in config.seeds}
  rows = _probe(experiment, config.strength, StoredFeatures(whole, readers), labels, divided)
  for streams in config.streams:
    name = {"both": "GASM-CAST"}.get(streams, f"GASM-CAST, {streams} alone")
    scores = {
      seed: [_train(experiment, streams, seed, fold, whole, fold_of == fold, readers) for fold in range(config.folds)]
      for seed, fold_of in divided.items()
    }
    rows.append(_row(name, scores, {seed: np.bincount(fold_of) for seed, fold_of in divided.items()}))
    experiment.console.print(_line(rows[-1]))
  _write(experiment, config, whole, rows)


def _check_components(experiment: Experiment) -> None:
  """Principal components that were fitted on clips that are held out here would tell of them."""
  fitted = [name for name, told in experiment.store.description.items() if "components" in told]
  require(
    not fitted,
    f"config.data.store: the {' and '.join(fitted)} features of {experiment.store.folder} are principal components, "
    "fitted on a split whose clips are held out here; cross-validate a store without them (config.extract.*.pca = 0).",
  )


def _join(parents: list[Dataset]) -> Dataset:
  """All examples, of ids that are unique over the splits."""
  examples = tuple(example for parent in parents for example in parent.examples)
  if len({example.id for example in examples}) < len(examples):
    raise DataError(f"the splits {', '.join(parent.split for parent in parents)} share ids; use one of them.")
  fingerprint = hash_json([parent.fingerprint for parent in parents])
  return dataclasses.replace(parents[0], split="all", examples=examples, fingerprint=fingerprint)


def _part(whole: Dataset, split: str, chosen: Int[np.ndarray, "n"]) -> Dataset:
  examples = tuple(whole.examples[i] for i in chosen.tolist())
  fingerprint = hash_json([whole.fingerprint, [example.id for example in examples]])
  return dataclasses.replace(whole, split=split, examples=examples, fingerprint=fingerprint)


def _probe(
  experiment: Experiment,
  strength: float,
  source: StoredFeatures,
  labels: Int[np.ndarray, "n"],
  divided: dict[int, np.ndarray],
) -> list[dict[str, Any]]:
  """A row of the table for each stream alone and for both side by side."""
  streams = tuple(experiment.model.streams())
  means = [_means(source.read(index), streams) for index in range(len(labels))]
  features = {f"linear probe, {name}": np.stack([mean[name] for mean in means]) for name in streams}
  if len(streams) > 1:
    features["linear probe, both side by side"] = np.concatenate(list(features.values()), 1)
  rows = []
  for name, x in features.items():
    scores: dict[int, list[float]] = {}
    for seed, fold_of in divided.items():
      scores[seed] = []
      for fold in range(int(fold_of.max()) + 1):
        held = fold_of == fold
        answers = linear_probe(x[~held], labels[~held], x[held], strength)
        scores[seed].append(float(np.mean(answers == labels[held])))
    rows.append(_row(name, scores, {seed: np.bincount(fold_of) for seed, fold_of in divided.items()}))
    experiment.console.print(_line(rows[-1]))
  return rows


def _means(arrays: dict[str, np.ndarray], streams: tuple[str, ...]) -> dict[str, Float[np.ndarray, "D"]]:
  """Each stream's mean over time and space."""
  means = {}
  for name in streams:
    x = decompress(parts_of(name, arrays))
    means[name] = x.reshape(-1, x.shape[-1]).mean(0)
  return means


def _model(experiment: Experiment, streams: str, **fields: Any) -> Experiment:
  """The experiment with these streams alone, and these `fields` at the top of the configuration."""
  raw = copy.deepcopy(experiment.raw) | fields
  raw["model"].setdefault("fusion", {})["streams"] = streams
  return Experiment(raw, experiment.workdir / "folds" / streams, experiment.command, Console(file=io.StringIO()))


def _train(
  experiment: Experiment, streams: str, seed: int, fold: int, whole: Dataset, held: np.ndarray, readers: tuple
) -> float:
  """The accuracy on the fold that is held out, after the last step."""
  data = experiment.raw["data"] | {"store": str(experiment.store.folder)}  # of one stream several stores might agree
  part, pretrained = _model(experiment, streams, seed=seed, data=data).with_weights()
  workdir = part.workdir / f"seed{seed}_fold{fold}"
  train, test = _part(whole, "train", np.flatnonzero(~held)), _part(whole, "validation", np.flatnonzero(held))
  config = part.train_config(train)
  once = {"validate_every": config.steps, "checkpoint_every": config.steps, "patience": 0}
  config = dataclasses.replace(config, **once, best_metric="top1", best_mode="max")
  source, held_out = StoredFeatures(train, readers), StoredFeatures(test, readers)
  place = {"process": jax.process_index(), "processes": jax.process_count()}
  result = fit(
    part.system(train),
    lambda step: train_batches(source, part.data, part.seed, label=LABEL, start_step=step, **place),
    lambda: evaluation_batches(held_out, part.data, **place),
    config,
    workdir,
    part.identity(train, test, pretrained),
    pretrained=pretrained.variables,
    console=part.console,
  )
  if result.status == "terminated":
    raise Stopped(result.message)
  experiment.console.print(f"{streams}, seed {seed}, fold {fold}: {100 * result.best_value:.1f} %")
  return result.best_value


def _row(name: str, scores: dict[int, list[float]], sizes: dict[int, Int[np.ndarray, "folds"]]) -> dict[str, Any]:
  """Accuracy of each seed over all its folds, mean and standard deviation over the seeds."""
  by_seed = {seed: float(np.average(scores[seed], weights=sizes[seed])) for seed in scores}
  values = list(by_seed.values())
  spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
  return {"name": name, "mean": float(np.mean(values)), "std": spread, "seeds": by_seed, "folds": scores}


def _line(row: dict[str, Any]) -> str:
  return f"{row['name']}: {100 * row['mean']:.1f} +- {100 * row['std']:.1f} %"


def _write(experiment: Experiment, config: FoldsConfig, whole: Dataset, rows: list[dict[str, Any]]) -> None:
  groups = {example.group for example in whole.examples}
  seeds = [f"seed {seed}" for seed in config.seeds]
  lines = [
    f"{len(whole.examples)} clips of {len(groups)} groups, {config.folds} folds that share no group, "
    f"{len(seeds)} seeds; accuracy over all folds, mean and standard deviation over seeds. Features: "
    f"{experiment.store.folder.name}.",
    "",
    f"| | accuracy | {' | '.join(seeds)} |",
    f"|---|---|{'---|' * len(seeds)}",
  ]
  for row in rows:
    each = " | ".join(f"{100 * value:.1f} %" for value in row["seeds"].values())
    lines.append(f"| {row['name']} | {100 * row['mean']:.1f} ± {100 * row['std']:.1f} % | {each} |")
  with records.writing(experiment.workdir), atomic_file(experiment.workdir / "folds.md") as file:
    file.write(("\n".join(lines) + "\n").encode("utf-8"))
  store = {"folder": experiment.store.folder.name, "fingerprint": experiment.store.fingerprint}
  result = {"rows": rows, "clips": len(whole.examples), "groups": len(groups), "data": whole.fingerprint}
  with records.writing(experiment.workdir):
    write_json(experiment.workdir / "folds.json", result | {"store": store, "versions": records.versions()})
  experiment.console.print(f"Table: {experiment.workdir / 'folds.md'}")
