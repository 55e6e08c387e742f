"""Job cache_fidelity: what features cost in a smaller form, measured on the user's own clips.

The reference are features in full precision with all tokens. Every variant is made of them as job extract would store
it, restored as training would read it, and compared: cosine of each token, shares of the variance that are lost, bytes,
and with a trained head its answers. Nothing is stored. Fewer tokens and lower precision lose different things, so they
are told apart: pooling is measured against all tokens, everything else against the equally pooled reference.

Writes fidelity.json (every number) and fidelity.md (the table).
"""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from rich import box
from rich.table import Table

from gasmcast.core.config import require, to_dict
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.core.rng import generator
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.dataset import require_labels
from gasmcast.jobs import extract, extraction, fidelity_variants, records
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.fidelity_head import Head, trained_experiment
from gasmcast.jobs.fidelity_reference import Features, Reference
from gasmcast.jobs.fidelity_variants import Comparison
from gasmcast.metrics.fidelity import answers
from gasmcast.reports import fidelity as report
from gasmcast.store.compression import Pca, Variant, fit_pca, pool_features
from gasmcast.systems.gasmcast import LABEL

_SAMPLES = 100_000  # tokens that principal components are fitted on, about


@dataclasses.dataclass(frozen=True)
class FidelityConfig:
  """What is compared, and on what.

  Attributes:
    variants: of all streams alike.
    split: whose clips are compared.
    clips: of it, in a random order; all where it has fewer.
    pca_split: on whose clips, other ones, principal components are fitted.
    pca_clips: of it.
    stored: whether the reference is read from `config.data.store` where it is set; False computes it from the videos.
    head: working directory of a training on stored features of the same backbones; None for no accuracy.
  """

  variants: tuple[Variant, ...]
  split: str = "validation"
  clips: int = 256
  pca_split: str = "train"
  pca_clips: int = 256
  stored: bool = True
  head: str | None = None

  def __post_init__(self):
    require(bool(self.variants), "config.fidelity.variants is empty; name one or more forms of the features.")
    require(len(set(self.variants)) == len(self.variants), "config.fidelity.variants names a form twice; name it once.")
    for name in ("clips", "pca_clips"):
      value = getattr(self, name)
      require(value >= 1, f"config.fidelity.{name} = {value}: it must be at least 1.")


def check(experiment: Experiment) -> None:
  """Refuses wrong fields, trained backbones, and a folder that holds no trained head."""
  config = experiment.section("fidelity", FidelityConfig)
  extract.check(experiment)
  require(jax.process_count() == 1, "job cache_fidelity runs in one process; start it on one machine.")
  if config.head is not None and pathlib.Path(config.head) != experiment.workdir:  # where it may still be trained
    trained_experiment(experiment, pathlib.Path(config.head))


def run(experiment: Experiment) -> None:
  """Reads, compares, writes.

  Raises:
    DataError: a split or the store can't be used, or too many clips can't be read.
    WeightsError: the weights of a backbone can't be had.
    WorkdirError: there is no trained head, or it was trained on features of other networks.
  """
  config = experiment.section("fidelity", FidelityConfig)
  dataset = experiment.dataset(config.split)
  reference = Reference(experiment, config.stored and experiment.store_folder is not None)
  head = None if config.head is None else Head(experiment, pathlib.Path(config.head), reference)
  if head is not None:
    _require_answers(head, dataset)
  unreadable: dict[str, str] = {}
  chosen = _choose(experiment, dataset, config.clips)
  components, fitting = {}, []
  if any(variant.pca for variant in config.variants):
    parent = experiment.dataset(config.pca_split)
    fitting = _choose(experiment, parent, config.pca_clips, [dataset.examples[index].id for index in chosen])
    components = _fit(reference, parent, fitting, config.variants, unreadable)
  comparisons, forms = [], []
  for variant in config.variants:
    form = to_dict(variant) | {"name": fidelity_variants.name(variant)}
    if why := fidelity_variants.obstacle(reference.shapes, variant, len(fitting)):
      form["impossible"] = why
    else:
      comparisons.append((form, Comparison(variant, reference.shapes, components.get(variant, {}))))
    forms.append(form)
  clips = _compare(reference, dataset, chosen, comparisons, head, unreadable)
  stored = _clips_of_all(experiment)
  for form, comparison in comparisons:
    size = fidelity_variants.bytes_of_clip(reference.shapes, comparison.variant)
    form |= {"bytes_of_clip": size, "bytes_of_all": size * stored["records"], "streams": comparison.numbers()}
  result = {
    "variants": forms,
    "reference": {"origin": reference.origin, "precision": reference.precision, "networks": reference.networks},
    "data": {"split": config.split, "fingerprint": dataset.fingerprint, "clips": clips},
    "components": {"split": config.pca_split, "clips": len(fitting)} if components else None,
    "unreadable": unreadable,
    "head": None if head is None else {"workdir": config.head, "weights": head.weights},
    "all": stored,
    "versions": records.versions(),
  }
  _write(experiment, result)


def _choose(experiment: Experiment, dataset: Dataset, count: int, others: Sequence[str] = ()) -> list[int]:
  """Up to `count` examples in a random order, none of which has one of the ids `others`."""
  taken = set(others)
  order = generator(experiment.seed, "fidelity", dataset.split).permutation(len(dataset.examples)).tolist()
  chosen = [index for index in order if dataset.examples[index].id not in taken][:count]
  if not chosen:
    raise DataError(
      f"all {len(dataset.examples)} clips of {dataset.split!r} are compared, so none is left to fit components on; set "
      "config.fidelity.pca_split to another split or config.fidelity.clips to fewer."
    )
  return chosen


def _require_answers(head: Head, dataset: Dataset) -> None:
  """Accuracy needs answers, in the classes of the head."""
  require_labels(dataset)
  if head.class_names != dataset.classes[LABEL]:
    raise DataError(
      f"{head.folder} was trained on other classes than those of {dataset.name}, or in another order; name a head of "
      "this data set."
    )


def _clips_of_all(experiment: Experiment) -> dict[str, Any]:
  """What `bytes_of_all` counts: the clips of the splits that job extract stores, and the views of each."""
  config = experiment.section("extract", extraction.ExtractConfig)
  clips = {split: len(experiment.dataset(split).examples) for split in config.splits}
  return {"splits": clips, "views": config.views, "records": config.views * sum(clips.values())}


def _read(
  reference: Reference, dataset: Dataset, chosen: Sequence[int], unreadable: dict[str, str]
) -> Iterator[list[tuple[Example, Features]]]:
  """Lists of examples with their features; those that can't be read go into `unreadable`, by their ids.

  Raises:
    DataError: in the end, if more could not be read than `config.train.max_error_share` allows.
  """
  examples, failed = (dataset.examples[index] for index in chosen), 0
  for batch in reference.batches(dataset, chosen):
    readable = []
    for item, example in zip(batch, examples, strict=False):
      if isinstance(item, DataError):
        unreadable[example.id] = str(item)
        failed += 1
      else:
        readable.append((example, item))
    if readable:
      yield readable
  limit = reference.experiment.max_error_share
  if failed > limit * len(chosen) or failed == len(chosen):
    raise DataError(
      f"{failed} of {len(chosen)} clips of the split {dataset.split!r} could not be read, more than "
      f"config.train.max_error_share = {limit} allows; the last one: {next(reversed(unreadable.values()))}"
    )


def _fit(
  reference: Reference,
  dataset: Dataset,
  chosen: Sequence[int],
  variants: Sequence[Variant],
  unreadable: dict[str, str],
) -> dict[Variant, dict[str, Pca]]:
  """Variant -> stream -> the components of its pooled tokens, the same number of which is drawn from each clip."""
  fitted = [v for v in variants if v.pca and not fidelity_variants.obstacle(reference.shapes, v, len(chosen))]
  rng = generator(reference.experiment.seed, "fidelity", "principal components")
  each = -(-_SAMPLES // len(chosen))
  samples: dict[tuple[int, str], list[np.ndarray]] = {}
  for clips in _read(reference, dataset, chosen, unreadable) if fitted else ():
    for tokens in sorted({variant.tokens for variant in fitted}):
      for _, features in clips:
        for name, x in features.items():
          rows = pool_features(x, tokens).reshape(-1, x.shape[-1])
          samples.setdefault((tokens, name), []).append(rows[rng.permutation(len(rows))[:each]])
  return {
    variant: {name: fit_pca(np.concatenate(samples[variant.tokens, name]), variant.pca) for name in reference.shapes}
    for variant in fitted
  }


def _compare(
  reference: Reference,
  dataset: Dataset,
  chosen: Sequence[int],
  comparisons: Sequence[tuple[dict[str, Any], Comparison]],
  head: Head | None,
  unreadable: dict[str, str],
) -> int:
  """Adds every clip to every comparison, puts the head's answers under "head", and returns the number of clips."""
  refusals = [None if head is None else head.obstacle(comparison.shapes) for _, comparison in comparisons]
  rows = reference.experiment.section("extract", extraction.ExtractConfig).batch
  asked = {place for place, why in enumerate(refusals) if head is not None and why is None}
  logits: dict[int, list[np.ndarray]] = {place: [] for place in asked}
  expected: list[np.ndarray] = []
  examples: list[Example] = []
  for clips in _read(reference, dataset, chosen, unreadable):
    examples += [example for example, _ in clips]
    for place, (_, comparison) in enumerate(comparisons):
      restored = [comparison.add(features) for _, features in clips]
      if place in asked:
        logits[place].append(head.logits(restored, rows))
    if asked:  # what the head can be given has one shape, so it is the same reference for all
      tokens = comparisons[min(asked)][1].variant.tokens
      pooled = [{name: pool_features(x, tokens) for name, x in features.items()} for _, features in clips]
      expected.append(head.logits(pooled, rows))
  for place, (form, _) in enumerate(comparisons):
    if place in asked:
      labels = np.array([example.labels[LABEL] for example in examples])
      form["head"] = answers(np.concatenate(expected), np.concatenate(logits[place]), labels)
    elif head is not None:
      form["head"] = refusals[place]
  return len(examples)


def _write(experiment: Experiment, result: dict[str, Any]) -> None:
  """Both files, and the table on the console."""
  with records.writing(experiment.workdir):
    experiment.workdir.mkdir(parents=True, exist_ok=True)
    write_json(experiment.workdir / "fidelity.json", result)
    with atomic_file(experiment.workdir / "fidelity.md") as file:
      file.write(report.markdown(result).encode("utf-8"))
  columns, rows = report.brief(result)
  table = Table(title="What smaller features lose", title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
  for place, column in enumerate(columns):
    table.add_column(column, justify="left" if place < 2 else "right")
  for row in rows:
    table.add_row(*row)
  experiment.console.print(table)
  for note in report.notes(result):
    experiment.console.print(note)
  experiment.console.print(f"Table: {experiment.workdir / 'fidelity.md'}")
