"""Job evaluate: the best checkpoint on the configured splits.

Writes metrics.json, and for the report evaluation/<split>.npz (scores of every example, sums, attention of a few
clips) beside evaluation/<split>.json (names).
"""

import dataclasses
import io

import jax
import numpy as np

from gasmcast.core import rules
from gasmcast.core.config import require
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.core.rng import generator
from gasmcast.core.types import Dataset
from gasmcast.datasets.dataset import SPLITS, require_labels
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.scoring import Best, everywhere
from gasmcast.metrics.attention_heads import summaries
from gasmcast.systems.gasmcast import LABEL
from gasmcast.training.evaluation import summarize
from gasmcast.training.sharding import replicated, shard_batch
from gasmcast.training.state import variables
from gasmcast.videos.batches import evaluation_batches


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
    unknown = set(self.splits) - set(SPLITS)
    require(
      bool(self.splits) and not unknown,
      f"config.evaluate.splits = {self.splits}: name one or more of {', '.join(SPLITS)}.",
    )
    require(self.attention_clips >= 0, f"config.evaluate.attention_clips = {self.attention_clips}; use 0 or more.")


def check(experiment: Experiment) -> None:
  """Refuses splits that can't be used, unless the data set may still have to be made, and an impossible batch."""
  experiment.check_batch()
  splits = experiment.section("evaluate", EvaluateConfig).splits
  if experiment.recipe is None:
    for split in splits:
      require_labels(experiment.dataset(split))


def run(experiment: Experiment) -> None:
  """Restores, evaluates split by split, writes.

  Raises:
    WorkdirError: there is no checkpoint of this configuration in the working directory.
    WeightsError: the weights of a backbone can't be had: checkpoints do not hold frozen ones.
    DataError: a split can't be used, or too many of its clips can't be read.
  """
  config = experiment.section("evaluate", EvaluateConfig)
  datasets = {split: experiment.dataset(split) for split in config.splits}
  for dataset in datasets.values():
    require_labels(dataset)
  best = Best(experiment)
  experiment, state = best.experiment, best.state
  splits = {}
  for split, dataset in datasets.items():
    arrays, splits[split] = _evaluate(best, dataset)
    arrays |= _attention(best, dataset, config.attention_clips)
    if jax.process_index() == 0:
      with records.writing(experiment.workdir):
        _save(experiment, dataset, arrays)
      _say(experiment, split, splits[split])
  if jax.process_index() == 0:
    sizes = {"trainable": state.trainable, "frozen": state.frozen}
    meta = {
      "step": int(state.step),
      "command": records.training_command(experiment),
      "config": experiment.raw,
      "data": {split: dataset.fingerprint for split, dataset in datasets.items()},
      "weights": best.weights,
      "parameters": {kind: sum(leaf.size for leaf in leaves.values()) for kind, leaves in sizes.items()},
      "versions": records.versions(),
    }
    with records.writing(experiment.workdir):
      write_json(experiment.workdir / "metrics.json", {"splits": splits, "meta": meta})


def _evaluate(best: Best, dataset: Dataset) -> tuple[dict[str, np.ndarray], dict[str, float]]:
  """(arrays for the report, numbers of metrics.json) of one split."""
  stored = best.experiment.store_folder is not None
  scores = best.score(dataset, best.experiment.source(dataset), stored, with_sums=True)
  numbers = summarize(best.system, scores.sums) | {"unreadable": scores.failed}
  metrics = scores.sums["metrics"]
  arrays = {
    "logits": scores.logits,
    "labels": np.array([example.labels[LABEL] for example in dataset.examples], np.int32),
    "ids": np.array([example.id for example in dataset.examples]),
    "unreadable": np.array(scores.failed),
    "right_by_depth": np.array(metrics["right_by_depth"]),
  }
  arrays |= {f"sums/{name}": leaf for name, leaf in rules.flatten(metrics["classification"]).items()}
  return arrays, numbers


def _say(experiment: Experiment, split: str, numbers: dict[str, float]) -> None:
  unreadable = f", {numbers['unreadable']} could not be read" if numbers["unreadable"] else ""
  experiment.console.print(
    f"{split}: top-1 {100 * numbers['top1']:.1f} %, top-5 {100 * numbers['top5']:.1f} % "
    f"of {numbers['examples']:.0f} clips{unreadable}"
  )


def _attention(best: Best, dataset: Dataset, clips: int) -> dict[str, np.ndarray]:
  """Frames and attention of a few random clips of different classes, as far as the model has them."""
  experiment, system, state = best.experiment, best.system, best.state
  by_class: dict[int, list[int]] = {}
  for position, example in enumerate(dataset.examples):
    by_class.setdefault(example.labels[LABEL], []).append(position)
  rng = generator(experiment.seed, "attention", dataset.split)
  count = min(clips, len(by_class))
  classes = rng.permutation(sorted(by_class))[:count]
  chosen = tuple(dataset.examples[rng.choice(by_class[c])] for c in classes)
  if not chosen:
    return {}
  few = dataclasses.replace(dataset, examples=chosen)
  devices = experiment.mesh.shape["data"]
  data = dataclasses.replace(experiment.data, global_batch=-(-len(chosen) // devices) * devices, workers=0)
  place = {"process": jax.process_index(), "processes": jax.process_count()}
  batch = next(iter(evaluation_batches(experiment.source(few), data, **place)))
  seen = batch
  if "frames" not in batch and not experiment.gives_features:
    # Of stored features the pictures come from the videos, if these are still there.
    seen = next(iter(evaluation_batches(experiment.clips(few), data, **place)))
  on_device = shard_batch({name: leaf for name, leaf in batch.items() if name != "error"}, experiment.mesh)

  def step(state, batch):
    outputs, _ = system.apply(variables(state), batch, train=False, capture=True)
    return system.explain(outputs), outputs["logits"], summaries(outputs["intermediates"]["attention"])

  explained, logits, heads = jax.jit(step, out_shardings=replicated(experiment.mesh))(state, on_device)
  keep = np.flatnonzero(everywhere(batch["ok"] & seen["ok"]))
  if not keep.size:
    return {}
  arrays = {f"heads/{name}": np.asarray(leaf)[keep] for name, leaf in heads.items()}
  if not explained or "frames" not in seen:
    return arrays
  arrays |= {f"attention/{name}": np.asarray(leaf)[keep] for name, leaf in explained.items()}
  arrays["attention/frames"] = everywhere(seen["frames"])[keep][:, :: system.stride]
  arrays["attention/logits"] = np.asarray(logits)[keep]
  arrays["attention/labels"] = everywhere(batch[LABEL])[keep]
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
