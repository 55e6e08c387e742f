"""Job extract: what the frozen backbones make of every clip, into a store that training reads in place of the videos.

The work is cut into shards. Any number of workers, on this machine and on others that see the folder, take the next
one that nobody holds; a shard is either finished, with its checksum, or as good as not begun. So the same command,
given again, goes on where the first was stopped, and given on another machine, helps.
"""

import time
from typing import Any

from rich.console import Console

from gasmcast.core.config import parse, require
from gasmcast.core.errors import ConfigError, DataError
from gasmcast.core.manifest import write_json
from gasmcast.core.memory import Monitor
from gasmcast.core.shards import Work
from gasmcast.core.types import Dataset
from gasmcast.jobs import engines, extraction_statistics, records
from gasmcast.jobs.experiment import Experiment
from gasmcast.jobs.extraction import ExtractConfig
from gasmcast.jobs.extractor import Extractor
from gasmcast.store.feature_store import FAILED, FeatureStore
from gasmcast.store.source import split_name

_SAY_SECONDS = 15.0


def check(experiment: Experiment) -> None:
  """Refuses wrong fields, and backbones that are trained or random, whose features are worth nothing later."""
  experiment.require_videos()
  experiment.section("extract", ExtractConfig)
  _engine(experiment)
  for name, stream in experiment.model.streams().items():
    require(
      not stream.trainable and not stream.random,
      f"config.model.{name} is trained or random: only features of a frozen, published backbone are worth storing; set "
      f"config.model.{name}.trainable to False and name its weights.",
    )


def run(experiment: Experiment) -> None:
  """Has the workers work, and says what there is in the end.

  Raises:
    DataError: a split can't be used.
    WeightsError: the weights of a backbone can't be had.
    WorkdirError: the store can't be written.
  """
  records.write(experiment)
  arguments = (experiment.raw, str(experiment.workdir), experiment.command)
  engines.run(_engine(experiment), work, arguments, experiment.console)


def work(raw: dict[str, Any], workdir: str, command: str) -> None:
  """One worker: extracts until every split is whole, by whoever."""
  experiment, pretrained = Experiment(raw, workdir, command).with_weights(stored=False)
  extractor = Extractor(experiment, pretrained)
  experiment.console.print(f"Features go to {extractor.store.folder}", soft_wrap=True)
  config, splits = experiment.section("extract", ExtractConfig), {}
  for split in config.splits:
    dataset = experiment.dataset(split)
    shards = extractor.begin(dataset)
    if config.verify:
      shards.verify(full=True, refused=_retried)
    for note in shards.notes:
      experiment.console.print(note, soft_wrap=True)
    progress = Progress(experiment.console, split, shards)
    extractor.extract(dataset, shards, progress.add)
    numbers = progress.end()
    _check_failed(experiment, split, numbers, shards)
    splits[split] = numbers | {"features": _features(experiment.console, extractor.store, dataset, shards)}
  with records.writing(experiment.workdir):
    write_json(experiment.workdir / "extract.json", {"store": str(extractor.store.folder), "splits": splits})


def _retried(result: Any) -> str | None:
  """Why a whole shard is made again when everything is verified."""
  failed = len(result[FAILED])
  return f"{failed} of its clips could not be read." if failed else None


def _check_failed(experiment: Experiment, split: str, numbers: dict[str, Any], shards: Work) -> None:
  limit, failed, clips = experiment.max_error_share, numbers["failed"], numbers["clips"]
  if failed > limit * clips:
    reason = next(reason for receipt in shards.receipts().values() for reason in receipt.result[FAILED].values())
    raise DataError(
      f"{failed} of {clips} clips of the split {split!r} could not be read, more than config.train.max_error_share = "
      f"{limit} allows; the first: {reason} The receipts in {shards.folder} name all. Mend the files and run the same "
      "command with --config.extract.verify=True."
    )


def _features(console: Console, store: FeatureStore, dataset: Dataset, shards: Work) -> dict[str, Any]:
  """How the features of a split are distributed, stream by stream, said once."""
  numbers = extraction_statistics.summarize(shards.receipts().values(), store.reader(split_name(dataset)))
  for stream, found in numbers.items():
    console.print(f"{dataset.split}, {stream}: {extraction_statistics.line(found)}", soft_wrap=True)
  return numbers


def _engine(experiment: Experiment) -> engines.EngineConfig:
  try:
    return parse(engines.EngineConfig, experiment.cluster, "config.cluster")
  except ConfigError as error:  # of these fields one stands outside of the section
    raise ConfigError(str(error).replace("config.cluster.engine", "config.engine")) from error


class Progress:
  """Says every few seconds how many clips all workers have done, at what rate, and how long the rest will take."""

  def __init__(self, console: Console, split: str, shards: Work):
    self._console, self._split, self._shards = console, split, shards
    self._begin = self._said = time.monotonic()
    self._there, self._items = shards.progress()
    self._done, self._memory = 0, Monitor()

  def add(self, clips: int) -> None:
    """So many clips more were done here."""
    self._done += clips
    now = time.monotonic()
    if now - self._said >= _SAY_SECONDS:
      self._said = now
      finished, items = self._shards.progress()
      rate = max(finished - self._there, self._done) / (now - self._begin)
      left = (items - finished) / rate
      self._console.print(
        f"{self._split}: {finished:,} of {items:,} clips in finished shards, {rate:.1f} clips/s, "
        f"{duration(left)} left; {self._done:,} by this worker{self._held()}",
        soft_wrap=True,
      )

  def end(self) -> dict[str, Any]:
    """The numbers of the split, said once."""
    seconds, receipts = time.monotonic() - self._begin, self._shards.receipts()
    failed = sum(len(receipt.result[FAILED]) for receipt in receipts.values())
    size = sum(receipt.bytes for receipt in receipts.values())
    unreadable = f", {failed} could not be read" if failed else ""
    self._console.print(
      f"{self._split}: {self._items:,} clips in {len(receipts)} shards, {size / 1e6:,.1f} MB{unreadable}; "
      f"{self._done:,} by this worker in {duration(seconds)}, {self._done / seconds:.1f} clips/s",
      soft_wrap=True,
    )
    return {"clips": self._items, "failed": failed, "bytes": size, "here": self._done, "seconds": seconds}

  def _held(self) -> str:
    """The memory of this process, where the system tells it."""
    resident = self._memory.read(self._done).get("memory/rss_mb")
    return "" if resident is None else f", rss {resident / 1000:.1f} GB"


def duration(seconds: float) -> str:
  """1:02:03 of hours, minutes and seconds."""
  minutes, rest = divmod(round(seconds), 60)
  return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
