"""Case of the job benchmark: reading stored features beside decoding."""

import dataclasses
import itertools
import pathlib
from collections.abc import Callable, Mapping

import numpy as np

from gasmcast.core.timing import Side
from gasmcast.core.types import Dataset
from gasmcast.jobs import benchmark_videos
from gasmcast.jobs.benchmark import Prepared
from gasmcast.jobs.benchmark_videos import Videos
from gasmcast.store import feature_store
from gasmcast.store.compression import Variant, compress, name_parts
from gasmcast.store.records import write_records
from gasmcast.store.source import StoredFeatures
from gasmcast.videos.pipeline import Clips, DataConfig


@dataclasses.dataclass(frozen=True)
class FeaturesCase:
  """Stored features of a clip, beside decoding it. What the features are doesn't matter here: they are noise.

  Attributes:
    videos: that are decoded.
    take: frames of each clip, T.
    examples: in the store; they are read one after the other, so that the CPU's caches don't hold them.
    tokens, width: of a frame's features, N and D.
    motion: width of a frame's motion feature.
    variant: form of the features.
  """

  videos: Videos
  take: int = 8
  examples: int = 240
  tokens: int = 196
  width: int = 768
  motion: int = 512
  variant: Variant = dataclasses.field(default_factory=Variant)
  dtype: str = "uint8"

  def prepare(self, where: str) -> Prepared:
    """The store, then decoding with the crop of evaluation."""
    clips = Clips(benchmark_videos.dataset(self.videos), DataConfig(1, self.take), augmented=False)
    source, size = self._store(pathlib.Path(benchmark_videos.scratch_folder()) / "store")
    count, following = self.videos.count, itertools.cycle(range(self.examples))
    sides = [
      _repeated("stored features", count, lambda _: source.read(next(following))),
      _repeated("decoding", count, clips.read),
    ]
    form = f"{self.variant.tokens or self.tokens} tokens {self.variant.precision}"
    form += f" of {self.variant.pca} components" if self.variant.pca else ""
    what = (
      f"{count} clips of {self.take} frames, as features ({form}, {size:,} bytes a clip) and decoded and cropped from "
    )
    return Prepared(sides, what + self.videos.described, 0.0, "", 0.0, clips=count)

  def _store(self, folder: pathlib.Path) -> tuple[StoredFeatures, int]:
    """(a store of noise, bytes of a record)."""
    rng = np.random.default_rng(0)
    examples = benchmark_videos.dataset(self.videos, repeats=-(-self.examples // self.videos.count)).examples
    dataset = Dataset("benchmark", "train", examples[: self.examples], benchmark_videos.CLASSES, "benchmark")
    store = feature_store.create(folder, {"benchmark": dataclasses.asdict(self.variant)})
    work = store.begin("train", [example.id for example in dataset.examples], shard=self.examples)
    plain = dataclasses.replace(self.variant, pca=0)  # of noise no components are fitted: the width is theirs
    semantic = rng.standard_normal((self.take, self.tokens, self.variant.pca or self.width), np.float32)
    motion = rng.standard_normal((self.take, self.motion), np.float32)
    parts = name_parts("semantic", compress(semantic, plain)) | name_parts("motion", compress(motion, Variant()))
    record = feature_store.encode_views([parts | {"labels": np.zeros(1, np.int32)}])
    for claim in work.claims():
      with claim:
        write_records(claim.path, itertools.repeat(record, self.examples))
        claim.finish({feature_store.FAILED: {}})
    return StoredFeatures(dataset, [store.reader("train")]), len(record)


def _repeated(name: str, count: int, read: Callable[[int], Mapping[str, np.ndarray]]) -> Side:
  """`count` clips in a call. Features and frames can't be compared; that as many were read as there are can."""

  def call() -> int:
    return sum(bool(read(index)) for index in range(count))

  return Side(name, call, lambda read: {"clips": np.array([read])})
