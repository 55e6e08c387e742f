"""Job evaluate: the best checkpoint on the configured splits.

Writes metrics.json, and for the report evaluation/<split>.npz (scores of every example, sums, attention of a few
clips) beside evaluation/<split>.json (names).
"""

import dataclasses
import io
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from gasmcast.core import rules
from gasmcast.core.errors import WorkdirError
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.core.rng import generator, stream_id
from gasmcast.core.types import Dataset
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.metrics.sums import merge
from gasmcast.systems.gasmcast import LABEL, GasmCastSystem, example_batch
from gasmcast.training.checkpoint import Checkpoints
from gasmcast.training.data_errors import DataErrors
from gasmcast.training.evaluation import summarize
from gasmcast.training.optim import make_optimizer
from gasmcast.training.sharding import shard_batch
from gasmcast.training.state import TrainState, create_state, fingerprint, variables
from gasmcast.training.step import eval_step
from gasmcast.videos.pipeline import evaluation_batches


def run(experiment: Experiment) -> None:
  """Restores, evaluates split by split, writes.

  Raises:
    WorkdirError: there is no checkpoint of this configuration in the working directory.
    DataError: a split can't be used.
  """
  datasets = {split: experiment.dataset(split) for split in experiment.evaluate.splits}
  system = experiment.system(next(iter(datasets.values())).classes[LABEL])
  state = _restore(experiment, system)
  splits = {}
  for split, dataset in datasets.items():
    arrays, numbers = _evaluate(experiment, system, state, dataset)
    splits[split] = numbers
    if jax.process_index() == 0:
      arrays |= _attention(experiment, system, state, dataset)
      _save(experiment, dataset, arrays)
      experiment.console.print(
        f"{split}: top-1 {100 * numbers['top1']:.1f} %, top-5 {100 * numbers['top5']:.1f} % "
        f"of {numbers['examples']:.0f} clips"
      )
  if jax.process_index() == 0:
    meta = {
      "step": int(state.step),
      "command": experiment.command,
      "config": experiment.raw,
      "data": {split: dataset.fingerprint for split, dataset in datasets.items()},
      "weights": fingerprint(variables(state)),
      "versions": records.versions(),
    }
    write_json(experiment.workdir / "metrics.json", {"splits": splits, "meta": meta})


def _restore(experiment: Experiment, system: GasmCastSystem) -> TrainState:
  """The state with the best validation."""
  folder = experiment.workdir / "checkpoints"
  if not folder.is_dir():
    raise WorkdirError(f"{experiment.workdir} holds no checkpoints; train first (--job train with the same --workdir).")
  train = experiment.dataset("train")
  config = experiment.train_config(train)
  tx, _ = make_optimizer(config.optim, config.steps)
  rng = jax.random.fold_in(jax.random.key(experiment.seed), stream_id("init"))
  batch = example_batch(experiment.data.frames, experiment.data.size, experiment.data.global_batch)
  target = create_state(system, tx, rng, batch, experiment.mesh, config.sharding)
  with Checkpoints(folder) as checkpoints:
    restored = checkpoints.restore(target, experiment.identity(train), "best")
  if restored is None:
    raise WorkdirError(f"{folder} holds no finished checkpoint; train first (--job train with the same --workdir).")
  return restored.state


def _evaluate(
  experiment: Experiment, system: GasmCastSystem, state: TrainState, dataset: Dataset
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """(arrays for the report, numbers of metrics.json) of one split."""

  @jax.jit
  def step(state, batch):
    outputs, _ = system.apply(variables(state), batch, train=False)
    return eval_step(state, batch, system=system), outputs["logits"]

  logits = np.full((len(dataset.examples), len(system.class_names)), np.nan, np.float32)
  total, failed = None, 0
  place = {"process": jax.process_index(), "processes": jax.process_count()}
  with DataErrors(experiment.workdir) as errors:
    for batch in evaluation_batches(dataset, experiment.data, **place):
      sums, scores = step(state, shard_batch(errors.strip(batch, dataset.split, int(state.step)), experiment.mesh))
      total = merge(total, jax.device_get(sums))
      index, ok, scores = (_everywhere(x) for x in (batch["index"], batch["ok"], scores))
      logits[index[ok]] = scores[ok]
      failed += int((~ok & (index >= 0)).sum())
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
  batch = next(iter(evaluation_batches(few, experiment.data)))
  device_batch = {name: leaf for name, leaf in batch.items() if name != "error"}
  host = jax.device_get(variables(state))
  outputs, _ = jax.jit(lambda v, b: system.apply(v, b, train=False, capture=True))(host, device_batch)
  explained = system.explain(outputs)
  keep = np.flatnonzero(batch["ok"])
  if not explained or not keep.size:
    return {}
  arrays = {f"attention/{name}": np.asarray(leaf)[keep] for name, leaf in explained.items()}
  arrays["attention/frames"] = batch["frames"][keep][:, :: system.stride]
  arrays["attention/logits"] = np.asarray(outputs["logits"])[keep]
  arrays["attention/labels"] = batch[LABEL][keep]
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
