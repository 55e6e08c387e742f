"""Features of frozen backbones on disk, under the fingerprint of all that made them.

    <root>/<key>/store.json                 {"format": 1, "fingerprint", "description"}
    <root>/<key>/<split>/examples.json      {"format": 1, "ids": [...], "views", "shard"}
    <root>/<key>/<split>/00000.arrayrecord  the records of `shard` examples, in the order of the ids
    <root>/<key>/<split>/00000.json         the receipt: without one a shard doesn't count (see `core.shards`)

The description is a tree of everything that the features depend on: weights, preprocessing, decoder, data set, variant.
Its hash is the fingerprint, so features of another description are in another folder and never mix with these. A record
holds all views (differently augmented readings) of one example: arrays "0/semantic", "0/semantic_scale", "0/motion",
"1/semantic", ...; that of an example that couldn't be read holds nothing, and the receipt says why:
{"failed": {"<position in the split>": reason}}.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from gasmcast.core import disk
from gasmcast.core.config import difference, to_dict
from gasmcast.core.errors import DataError
from gasmcast.core.manifest import hash_json, read_json, write_json
from gasmcast.core.shards import Receipt, Work
from gasmcast.store.records import RecordFiles, decode, encode

FORMAT = 1
STORE = "store.json"
EXAMPLES = "examples.json"
SUFFIX = ".arrayrecord"
FAILED = "failed"  # field of a receipt's result

_FINGERPRINT_DIGITS = 12  # in the name of a folder; 48 bits tell the stores of one folder apart
_REMOVE = "remove both and run the same extract command, which makes them anew."
_AGAIN = "run the same extract command, which makes what is missing and leaves the rest."


def encode_views(views: Sequence[Mapping[str, np.ndarray]]) -> bytes:
  """The record of one example from the arrays of each view by name of the stream; no view for one that failed."""
  return encode({f"{view}/{name}": array for view, arrays in enumerate(views) for name, array in arrays.items()})


def store_key(semantic: str, motion: str, description: Mapping[str, Any]) -> str:
  """The name of a store's folder: "<semantic>-<motion>-<digits of the fingerprint>"; an empty name is left out."""
  names = [name for name in (semantic, motion) if name]
  return "-".join([*names, hash_json(to_dict(description))[:_FINGERPRINT_DIGITS]])


@dataclasses.dataclass(frozen=True)
class FeatureStore:
  """A folder of features that were all made in the same way.

  Attributes:
    folder: <root>/<key>.
    description: what the features depend on.
    fingerprint: its hash.
  """

  folder: pathlib.Path
  description: Mapping[str, Any]
  fingerprint: str

  @property
  def splits(self) -> tuple[str, ...]:
    """Those that extraction has begun with, in alphabetical order."""
    return tuple(sorted(path.parent.name for path in self.folder.glob(f"*/{EXAMPLES}")))

  def begin(self, split: str, ids: Sequence[str], shard: int, views: int = 1, lease: float = 60.0) -> Work:
    """The work of extracting a split, new or begun by any worker on any machine.

    Shards whose files are missing or have another size than their receipts say are set aside to be made anew.

    Args:
      ids: of the examples, in the order of their positions.
      shard: examples of one file.
      views: readings of each example.
      lease: see `Work.open`.

    Raises:
      DataError: the split was begun with other examples, views or shards.
      WorkdirError: the folder can't be written.
    """
    examples = {"format": FORMAT, "ids": list(ids), "views": views, "shard": shard}
    file = self.folder / split / EXAMPLES
    if not file.exists():
      with disk.explained(file.parent):
        write_json(file, examples)
    elif (found := read_json(file)) != examples:
      raise DataError(
        f"{file} was written for other work ({_other_examples(found, examples)}); extract into another folder, or "
        f"remove {file.parent}."
      )
    return self._work(split, examples, lease, set_aside=True)

  def verify(self, split: str, full: bool) -> tuple[str, ...]:
    """Sets damaged shards aside, so that the same extract command makes them anew; says which and why, as sentences.

    Sizes are compared always, content hashes if `full`, which reads every file and finds every changed bit.

    Raises:
      DataError: the store holds no such split.
      WorkdirError: the folder can't be written.
    """
    work = self._work(split, self._examples(split), set_aside=True)
    work.verify(full)
    return work.notes

  def reader(self, split: str) -> "Reader":
    """Of a finished split. Nothing is written.

    Raises:
      DataError: the store holds no such split, it is not finished, or a file is missing or of another size than it had.
    """
    examples = self._examples(split)
    work = self._work(split, examples, set_aside=False)
    if missing := work.missing():
      raise DataError(
        f"{self.folder / split}: {len(work.shards) - len(missing)} of {len(work.shards)} shards are finished; {_AGAIN}"
      )
    paths, counts, failed = [], [], {}
    for number, receipt in work.receipts().items():
      paths.append(work.file(number))
      _require_size(paths[-1], receipt.bytes)
      counts.append(receipt.items[1] - receipt.items[0])
      failed |= _failures(receipt, self.folder / split)
    return Reader(RecordFiles(paths, counts), tuple(examples["ids"]), examples["shard"], examples["views"], failed)

  def _examples(self, split: str) -> dict[str, Any]:
    file = self.folder / split / EXAMPLES
    if not file.exists():
      raise DataError(
        f"{self.folder} holds no features of the split {split!r} but of {', '.join(self.splits) or 'none'}; extract "
        "them first."
      )
    examples = read_json(file)
    if not _are_examples(examples):
      raise DataError(
        f"{file} is not of format {FORMAT} with ids, views and shard; remove {file.parent} and extract the split anew."
      )
    return examples

  def _work(self, split: str, examples: Mapping[str, Any], lease: float = 60.0, *, set_aside: bool) -> Work:
    identity = {"store": self.fingerprint, "split": split, "examples": hash_json(examples)}
    folder, count = self.folder / split, len(examples["ids"])
    return Work.open(folder, count, examples["shard"], identity, SUFFIX, lease, set_aside)


def _are_examples(value: Any) -> bool:
  if not isinstance(value, dict) or value.get("format") != FORMAT or not isinstance(value.get("ids"), list):
    return False
  numbers = all(type(value.get(name)) is int and value[name] > 0 for name in ("views", "shard"))
  return numbers and all(isinstance(name, str) for name in value["ids"])


def _other_examples(found: Any, wanted: Mapping[str, Any]) -> str:
  if not _are_examples(found):
    return "another format"
  lines = difference({**found, "ids": len(found["ids"])}, {**wanted, "ids": len(wanted["ids"])}, "examples")
  return "; ".join(lines) or "other ids"


def _failures(receipt: Receipt, folder: pathlib.Path) -> dict[int, str]:
  """Position -> reason of the examples of a shard that have no features."""
  told = receipt.result.get(FAILED, {}) if isinstance(receipt.result, dict) else {}
  first, last = receipt.items
  try:
    failed = {int(position): str(reason) for position, reason in told.items()}
  except (AttributeError, ValueError) as error:
    raise DataError(f"{folder}: the receipt of {receipt.file} says of failures {told!r}; {_REMOVE}") from error
  if not all(first <= position < last for position in failed):
    raise DataError(
      f"{folder}: the receipt of {receipt.file}, examples {first} to {last - 1}, names failures of others; {_REMOVE}"
    )
  return failed


def _require_size(path: pathlib.Path, expected: int) -> None:
  try:
    size = path.stat().st_size
  except FileNotFoundError as error:
    raise DataError(f"{path} is missing though it was finished; {_AGAIN}") from error
  if size != expected:
    raise DataError(f"{path} has {size} bytes and was finished with {expected}: it was cut or half copied; {_AGAIN}")


@dataclasses.dataclass(frozen=True)
class Reader:
  """The features of a finished split by position. Safe in several threads; can be pickled.

  Attributes:
    files: of the shards.
    ids: of the examples, by position.
    shard: examples of one file.
    views: readings of each example.
    failed: position -> why the example has no features.
  """

  files: RecordFiles = dataclasses.field(repr=False)
  ids: tuple[str, ...] = dataclasses.field(repr=False)
  shard: int
  views: int
  failed: Mapping[int, str] = dataclasses.field(repr=False)

  def __len__(self) -> int:
    return len(self.ids)

  @functools.cached_property
  def positions(self) -> Mapping[str, int]:
    """id -> position."""
    return {name: position for position, name in enumerate(self.ids)}

  def __getstate__(self) -> dict[str, Any]:
    return {name: value for name, value in self.__dict__.items() if name != "positions"}  # cheaper to make than to send

  def read(self, position: int, view: int = 0) -> dict[str, np.ndarray]:
    """The arrays of one view of an example by name: "semantic", "semantic_scale", "motion", ...; read-only.

    Raises:
      DataError: the example has no features (`failed`), or the shard is damaged; the message says which and what to do.
      IndexError: no such position or view.
    """
    if not 0 <= position < len(self.ids):
      raise IndexError(f"position {position} of {len(self.ids)} examples")
    if not 0 <= view < self.views:
      raise IndexError(f"view {view} of {self.views}")
    if position in self.failed:
      raise DataError(f"{self.ids[position]} has no features: {self.failed[position]}")
    file, record = divmod(position, self.shard)
    try:
      arrays = decode(self.files.read(file, record))
    except DataError as error:
      raise DataError(f"{error} Remove {self.files.path(file)} and {_AGAIN}") from error
    prefix = f"{view}/"
    found = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    if not found:
      path = self.files.path(file)
      raise DataError(
        f"record {record} of {path} holds nothing of view {view} of {self.ids[position]}. Remove {path} and {_AGAIN}"
      )
    return found


def create(folder: str | pathlib.Path, description: Mapping[str, Any]) -> FeatureStore:
  """The store in `folder`, made if it isn't there.

  Raises:
    DataError: the folder holds a store of another description, or a damaged one.
    WorkdirError: the folder can't be written.
  """
  folder, described = pathlib.Path(folder), to_dict(description)
  fingerprint = hash_json(described)
  if (folder / STORE).exists():
    store = _load(folder)
    if store.fingerprint != fingerprint:
      lines = difference(store.description, described, "description") or ["1 and 1.0 are not the same here"]
      raise DataError(f"{folder} holds features made otherwise ({'; '.join(lines)}); extract into another folder.")
    return store
  with disk.explained(folder):
    write_json(folder / STORE, {"format": FORMAT, "fingerprint": fingerprint, "description": described})
  return FeatureStore(folder, described, fingerprint)


def find(folder: str | pathlib.Path, wanted: Mapping[str, Any]) -> FeatureStore:
  """The one store in `folder`, which is a store itself or holds several, whose description agrees with `wanted`.

  A description may say more than `wanted` does; what `wanted` says must be equal, at every depth.

  Raises:
    DataError: no store agrees, several do, or one is damaged. The message names them and the fields that differ.
  """
  folder, wanted = pathlib.Path(folder), to_dict(wanted)
  stores = [_load(path) for path in _candidates(folder)]
  if not stores:
    raise DataError(f"{folder} holds no feature store (a folder with {STORE}); extract the features first.")
  differing = [difference(_part(store.description, wanted), wanted, "description") for store in stores]
  agreeing = [store for store, lines in zip(stores, differing, strict=True) if not lines]
  if len(agreeing) > 1:
    names = ", ".join(store.folder.name for store in agreeing)
    raise DataError(f"{folder} holds {len(agreeing)} stores that agree: {names}; give the folder of one of them.")
  if not agreeing:
    nearest = min(range(len(stores)), key=lambda index: (len(differing[index]), stores[index].folder.name))
    raise DataError(
      f"none of {len(stores)} feature stores in {folder} was made as needed; the nearest, "
      f"{stores[nearest].folder.name}, differs (there -> needed): {'; '.join(differing[nearest])}. Extract for this "
      "configuration, or change it."
    )
  return agreeing[0]


def _candidates(folder: pathlib.Path) -> Iterable[pathlib.Path]:
  if (folder / STORE).exists():
    return [folder]
  return sorted(path.parent for path in folder.glob(f"*/{STORE}"))


def _part(value: Any, wanted: Any) -> Any:
  """`value` without the fields that `wanted` says nothing of."""
  if not isinstance(value, Mapping) or not isinstance(wanted, Mapping):
    return value
  return {key: _part(value[key], item) for key, item in wanted.items() if key in value}


def _load(folder: pathlib.Path) -> FeatureStore:
  file = folder / STORE
  value = read_json(file)
  if not isinstance(value, dict) or value.get("format") != FORMAT or not isinstance(value.get("description"), dict):
    raise DataError(f"{file} is no description of format {FORMAT}; extract the features anew into another folder.")
  fingerprint = hash_json(value["description"])
  if value.get("fingerprint") != fingerprint:
    raise DataError(
      f"{file}: the description has the fingerprint {fingerprint[:12]} and not {str(value.get('fingerprint'))[:12]}, "
      "so it was changed after the features were made; put the original back or extract them anew."
    )
  return FeatureStore(folder, value["description"], fingerprint)
