"""Job predict: the best checkpoint on splits whose answers are not published.

Writes predictions/<split>.csv: a line a clip with its id, the name of the most probable class, and the probability of
every class. A clip that can't be read has its line too, with nothing behind the id: no answer is invented.
"""

import csv
import dataclasses
import io

import jax
import numpy as np
from jaxtyping import Float

from gasmcast.core.config import require
from gasmcast.core.manifest import atomic_file
from gasmcast.core.types import Dataset
from gasmcast.jobs import records
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.scoring import Best


@dataclasses.dataclass(frozen=True)
class PredictConfig:
  """What is predicted.

  Attributes:
    splits: with answers or without.
    stored: whether `config.data.store` is read where it is set; False decodes the videos and runs the backbones.
  """

  splits: tuple[str, ...] = ("test",)
  stored: bool = True

  def __post_init__(self):
    require(bool(self.splits), "config.predict.splits is empty; name one or more splits.")


def check(experiment: Experiment) -> None:
  """Refuses splits that can't be used, unless the data set may still have to be made, and an impossible batch."""
  experiment.check_batch()
  splits = experiment.section("predict", PredictConfig).splits
  if experiment.recipe is None:
    for split in splits:
      experiment.dataset(split)


def run(experiment: Experiment) -> None:
  """Restores, scores split by split, writes.

  Raises:
    WorkdirError: there is no checkpoint of this configuration in the working directory.
    WeightsError: the weights of a backbone can't be had, or are not those that made the stored features.
    DataError: a split can't be used, or too many of its clips can't be read.
  """
  config, best = experiment.section("predict", PredictConfig), Best(experiment)
  stored = experiment.store_folder is not None and config.stored
  for split in config.splits:
    dataset = experiment.dataset(split)
    source = best.experiment.source(dataset) if stored else experiment.clips(dataset)
    scores = best.score(dataset, source, stored, with_sums=False)
    if jax.process_index() == 0:
      file = experiment.workdir / "predictions" / f"{split}.csv"
      with records.writing(experiment.workdir), atomic_file(file) as stream:
        stream.write(_table(dataset, best.system.class_names, scores.logits).encode("utf-8"))
      unreadable = f", {scores.failed} could not be read" if scores.failed else ""
      experiment.console.print(f"{split}: {len(dataset.examples)} clips{unreadable}; {file}")


def _table(dataset: Dataset, classes: tuple[str, ...], logits: Float[np.ndarray, "N C"]) -> str:
  shifted = np.exp(logits - logits.max(1, keepdims=True))
  probabilities = shifted / shifted.sum(1, keepdims=True)
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(["id", "label", *classes])
  for example, row in zip(dataset.examples, probabilities, strict=True):
    if np.isnan(row).any():
      writer.writerow([example.id, "", *([""] * len(classes))])
    else:
      writer.writerow([example.id, classes[row.argmax()], *(f"{value:.6g}" for value in row.tolist())])
  return text.getvalue()
