"""What job prepare is given: its section of the configuration, and the folders that follow from it."""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from gasmcast.core.config import require
from gasmcast.datasets.dataset import SPLITS
from gasmcast.datasets.table import DATASETS
from gasmcast.jobs.run import Run
from gasmcast.jobs.unpacking import Places
from gasmcast.metrics.data_quality import FLAGS
from gasmcast.metrics.quality_checks import ChecksConfig
from gasmcast.videos.quality import QualityConfig


@dataclasses.dataclass(frozen=True)
class PrepareConfig:
  """What is prepared, and how well it has to be.

  Attributes:
    dataset: key of `datasets.table.DATASETS`.
    source: the folder of the download.
    annotations: the folder with the annotations, None where they lie in the source.
    videos: where archives are unpacked, None for <workdir>/videos.
    splits: that are prepared; each must have its annotations.
    options: of the data set's reader.
    checksums: lists as md5sum, sha1sum, sha256sum or b3sum write them, of archives and of videos.
    verify: hash every file again, also those whose size and time say that they are unchanged.
    accept_changes: contents that changed since the last run are right; otherwise they are told again at every run.
    baseline: an earlier quality.json to compare with.
    exclude: examples with one of these flags are left out of the index.
    workers: processes that decode; 0 for one a CPU.
    shard: videos that one machine takes at a time.
    timeout: seconds that decoding one video may take.
    memory: bytes that it may take.
    quality: where flags begin.
    checks: what is a warning, and what is an error.
  """

  dataset: str
  source: str | None
  annotations: str | None = None
  videos: str | None = None
  splits: tuple[str, ...] = SPLITS
  options: dict[str, Any] = dataclasses.field(default_factory=dict)
  checksums: tuple[str, ...] = ()
  verify: bool = False
  accept_changes: bool = False
  baseline: str | None = None
  exclude: tuple[str, ...] = ()
  workers: int = 0
  shard: int = 256
  timeout: float = 30.0
  memory: int = 300_000_000
  quality: QualityConfig = dataclasses.field(default_factory=QualityConfig)
  checks: ChecksConfig = dataclasses.field(default_factory=ChecksConfig)

  def __post_init__(self):
    where = "config.prepare"
    require(self.dataset in DATASETS, f"{where}.dataset = {self.dataset!r}: use one of {', '.join(DATASETS)}.")
    require(bool(self.source), f"{where}.source is not set; give the folder of the download.")
    require(
      bool(self.splits) and set(self.splits) <= set(SPLITS) and len(set(self.splits)) == len(self.splits),
      f"{where}.splits = {self.splits}: name one or more of {', '.join(SPLITS)}, each once.",
    )
    unknown = [flag for flag in self.exclude if flag not in FLAGS]
    require(not unknown, f"{where}.exclude: {unknown[:1]} is no flag; use {', '.join(FLAGS)}.")
    require(self.workers >= 0, f"{where}.workers = {self.workers}; use 0 for one a CPU, or more.")
    require(self.shard >= 1, f"{where}.shard = {self.shard}: at least 1 video is needed.")
    require(
      self.timeout > 0 and self.memory > 0,
      f"{where}.timeout = {self.timeout}, {where}.memory = {self.memory}: both must be above 0.",
    )


class Setup(Run):
  """A run with the section `prepare`.

  Raises:
    ConfigError: a field is unknown or impossible.
  """

  def __init__(
    self, config: Mapping[str, Any], workdir: str | os.PathLike, command: str, console: Console | None = None
  ):
    super().__init__(config, workdir, command, console)
    self.prepare = self.only_section("prepare", PrepareConfig)
    source, self.workdir = pathlib.Path(self.prepare.source).absolute(), self.workdir.absolute()
    self.places = Places(
      source,
      pathlib.Path(self.prepare.annotations or source).absolute(),
      pathlib.Path(self.prepare.videos or self.workdir / "videos").absolute(),
      self.workdir,
    )
