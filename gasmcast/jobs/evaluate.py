"""Job evaluate: the best checkpoint on the configured splits.

Writes metrics.json, and for the report evaluation/<split>.npz (scores of every example, sums, attention of a few
clips) beside evaluation/<split>.json (names).
"""

import dataclasses
import io
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from gasmcast.core import rules
from gasmcast.core.errors import DataError, WorkdirError
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.core.rng import generator, stream_id
from gasmcast.core.types import Batch, Dataset
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.metrics.sums import merge
from gasmcast.systems.gasmcast import LABEL, GasmCastSystem, Pretrained, example_batch
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.data_errors import DataErrors
from gasmcast.training.evaluation import summarize
from gasmcast.training.optim import make_optimizer
from gasmcast.training.sharding import replicated, shard_batch
from gasmcast.training.state import TrainState, create_state, fingerprint, variables
from gasmcast.training.step import eval_step
from gasmcast.videos.batches import evaluation_batches


def check(experiment: Experiment) -> None:
  """Refuses splits that can't be used, unless the data set may still have to be made, and an impossible batch."""
  experiment.check_batch()
  if experiment.recipe is None:
    for split in experiment.evaluate.splits:
      experiment.dataset(split)


def run(experiment: Experiment) -> None:
  """Restores, evaluates split by split, writes.

  Raises:
    WorkdirError: there is no checkpoint of this configuration in the working directory.
    WeightsError: the weights of a backbone can't be had: checkpoints do not hold frozen ones.
    DataError: a split can't be used, or too many of its clips can't be read.
  """
  datasets = {split: experiment.dataset(split) for split in experiment.evaluate.splits}
  _require_checkpoints(experiment)
  experiment, pretrained = experiment.with_weights()
  system = experiment.system(next(iter(datasets.values())).classes[LABEL])
  state = _restore(experiment, system, pretrained)
  weights = {"model": fingerprint(variables(state)), **pretrained.streams}
  sizes = {"trainable": state.trainable, "frozen": state.frozen}
  step = _compile(experiment, system)
  splits = {}
  for split, dataset in datasets.items():
    arrays, splits[split] = _evaluate(experiment, system, state, step, dataset)
    arrays |= _attention(experiment, system, state, dataset)
    if jax.process_index() == 0:
      _save(experiment, dataset, arrays)
      _say(experiment, split, splits[split])
  if jax.process_index() == 0:
    meta = {
      "step": int(state.step),
      "command": records.training_command(experiment),
      "config": experiment.raw,
      "data": {split: dataset.fingerprint for split, dataset in datasets.items()},
      "weights": weights,
      "parameters": {kind: sum(leaf.size for leaf in leaves.values()) for kind, leaves in sizes.items()},
      "versions": records.versions(),
    }
    write_json(experiment.workdir / "metrics.json", {"splits": splits, "meta": meta})


def _require_checkpoints(experiment: Experiment) -> None:
  if not (experiment.workdir / "checkpoints").is_dir():
    raise WorkdirError(f"{experiment.workdir} holds no checkpoints; train first (--job train with the same --workdir).")


def _restore(experiment: Experiment, system: GasmCastSystem, pretrained: Pretrained) -> TrainState:
  """The state with the best validation, trained exactly as configured."""
  train = experiment.dataset("train")
  config = experiment.train_config(train)
  tx, _ = make_optimizer(config.optim, config.steps)
  rng = jax.random.fold_in(jax.random.key(experiment.seed), stream_id("init"))
  batch = example_batch(experiment.data.frames, experiment.data.size, experiment.data.global_batch)
  target = create_state(system, tx, rng, batch, experiment.mesh, config.sharding, pretrained.variables)
  identity = experiment.identity(train, pretrained)
  identity |= {"train": config.identity(), "frozen": fingerprint(target.frozen)}
  with Checkpoints(experiment.workdir / "checkpoints") as checkpoints:
    restored = checkpoints.restore(target, identity, "best")
  for note in restored.notes:
    experiment.console.print(note)
  return restored.state


def _compile(experiment: Experiment, system: GasmCastSystem) -> Callable[[TrainState, Batch], tuple[Any, jax.Array]]:
  """(state, batch) -> (sums, logits of all rows), whole on every device."""

  def step(state, batch):
    outputs, _ = system.apply(variables(state), batch, train=False)
    return eval_step(state, batch, system=system), outputs["logits"]

  return jax.jit(step, out_shardings=replicated(experiment.mesh))


def _evaluate(
  experiment: Experiment, system: GasmCastSystem, state: TrainState, step: Callable, dataset: Dataset
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """(arrays for the report, numbers of metrics.json) of one split."""
  logits = np.full((len(dataset.examples), len(system.class_names)), np.nan, np.float32)
  total, failed = None, 0
  place = {"process": jax.process_index(), "processes": jax.process_count()}
  with DataErrors(experiment.workdir) as errors:
    for batch in evaluation_batches(experiment.source(dataset), experiment.data, **place):
      sums, scores = step(state, shard_batch(errors.strip(batch, dataset.split, int(state.step)), experiment.mesh))
      total = merge(total, jax.device_get(sums))
      index, ok = _everywhere(batch["index"]), _everywhere(batch["ok"])
      logits[index[ok]] = np.asarray(scores)[ok]
      failed += int((~ok & (index >= 0)).sum())
  _check_failed(experiment, dataset, failed)
  numbers = summarize(system, total) | {"unreadable": failed}
  arrays = {
    "logits": logits,
    "labels": np.array([example.labels[LABEL] for example in dataset.examples], np.int32),
    "ids": np.array([example.id for example in dataset.examples]),
    "unreadable": np.array(failed),
    "right_by_depth": np.array(total["metrics"]["right_by_depth"]),
  }
  arrays |= {f"sums/{name}": leaf for name, leaf in rules.flatten(total["metrics"]["classification"]).items()}
  return arrays, numbers


def _check_failed(experiment: Experiment, dataset: Dataset, failed: int) -> None:
  limit, clips = experiment.max_error_share, len(dataset.examples)
  if failed > limit * clips:
    raise DataError(
      f"{failed} of {clips} clips of the split {dataset.split!r} could not be read, more than "
      f"config.train.max_error_share = {limit} allows; data_errors.jsonl in {experiment.workdir} names them."
    )


def _say(experiment: Experiment, split: str, numbers: dict[str, float]) -> None:
  unreadable = f", {numbers['unreadable']} could not be read" if numbers["unreadable"] else ""
  experiment.console.print(
    f"{split}: top-1 {100 * numbers['top1']:.1f} %, top-5 {100 * numbers['top5']:.1f} % "
    f"of {numbers['examples']:.0f} clips{unreadable}"
  )


def _everywhere(x: Any) -> np.ndarray:
  """The rows of all processes on each."""
  if jax.process_count() == 1:
    return np.asarray(x)
  return np.asarray(multihost_utils.process_allgather(x, tiled=True))


def _attention(
  experiment: Experiment, system: GasmCastSystem, state: TrainState, dataset: Dataset
) -> dict[str, np.ndarray]:
  """Frames and attention of a few random clips of different classes, as far as the model has them."""
  by_class: dict[int, list[int]] = {}
  for position, example in enumerate(dataset.examples):
    by_class.setdefault(example.labels[LABEL], []).append(position)
  rng = generator(experiment.seed, "attention", dataset.split)
  count = min(experiment.evaluate.attention_clips, len(by_class))
  classes = rng.permutation(sorted(by_class))[:count]
  chosen = tuple(dataset.examples[rng.choice(by_class[c])] for c in classes)
  if not chosen:
    return {}
  few = dataclasses.replace(dataset, examples=chosen)
  devices = experiment.mesh.shape["data"]
  data = dataclasses.replace(experiment.data, global_batch=-(-len(chosen) // devices) * devices, workers=0)
  place = {"process": jax.process_index(), "processes": jax.process_count()}
  batch = next(iter(evaluation_batches(experiment.source(few), data, **place)))
  on_device = shard_batch({name: leaf for name, leaf in batch.items() if name != "error"}, experiment.mesh)

  def step(state, batch):
    outputs, _ = system.apply(variables(state), batch, train=False, capture=True)
    return system.explain(outputs), outputs["logits"]

  explained, logits = jax.jit(step, out_shardings=replicated(experiment.mesh))(state, on_device)
  keep = np.flatnonzero(_everywhere(batch["ok"]))
  if not explained or not keep.size:
    return {}
  arrays = {f"attention/{name}": np.asarray(leaf)[keep] for name, leaf in explained.items()}
  arrays["attention/frames"] = _everywhere(batch["frames"])[keep][:, :: system.stride]
  arrays["attention/logits"] = np.asarray(logits)[keep]
  arrays["attention/labels"] = _everywhere(batch[LABEL])[keep]
  arrays["attention/ids"] = np.array([example.id for example in chosen])[keep]
  return arrays


def _save(experiment: Experiment, dataset: Dataset, arrays: dict[str, np.ndarray]) -> None:
  folder = experiment.workdir / "evaluation"
  buffer = io.BytesIO()
  np.savez(buffer, **arrays)
  with atomic_file(folder / f"{dataset.split}.npz") as file:
    file.write(buffer.getbuffer())
  names = {
    "data": dataset.name,
    "fingerprint": dataset.fingerprint,
    "classes": list(dataset.classes[LABEL]),
    "pairs": {kind: [list(pair) for pair in pairs] for kind, pairs in dataset.pairs.items()},
  }
  write_json(folder / f"{dataset.split}.json", names)
