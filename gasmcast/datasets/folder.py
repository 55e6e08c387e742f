"""Videos of one's own: a folder a class.

    root/train/jumping/a.mp4, root/validation/jumping/b.mp4, root/test/...     ("val" is read as well), or
    root/jumping/a.mp4                                                         where `shares` say how to split them

Videos may lie deeper below the folder of their class, down to eight folders. Hidden files are passed over, and those
that are no video by their suffix. Classes are numbered in the order of their names.
"""

import pathlib
import re
from collections.abc import Iterator, Mapping

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.csv_rows import is_plain, shown
from gasmcast.datasets.dataset import SPLITS, make_dataset, require_folder, require_split
from gasmcast.datasets.files import directories, files_below
from gasmcast.datasets.shares import check_shares, split_of

VIDEO_SUFFIXES = (".webm", ".mkv", ".mp4", ".m4v", ".mov", ".avi")
_DEPTH = 8
_SPLIT_FOLDERS = {"train": ("train",), "validation": ("validation", "val"), "test": ("test",)}


def load(
  root: str | pathlib.Path, split: str, *, shares: Mapping[str, float] | None = None, group: str = ""
) -> Dataset:
  """The videos of one split with the label "action", in the order of their paths.

  Args:
    root: holds a folder a split, or a folder a class.
    split: "train", "validation" or "test".
    shares: split -> share of the groups, for a root without folders of splits.
    group: a regular expression that is searched in the path below the class; what its first parenthesis matches
      ("(person[0-9]+)_") is the group, which stands in one split as a whole. "": every video is a group of its own.

  Raises:
    ConfigError: shares that add up to another sum than 1, shares beside folders of splits, or none without them; a
      group that is no regular expression with one parenthesis.
    DataError: no video, a class without one, or a video whose path doesn't match `group`.
  """
  require_split(split)
  root, pattern = pathlib.Path(root), _pattern(group)
  require_folder(root, "a folder a class")
  folders = _split_folders(root)
  if folders:
    require(shares is None, f"shares = {shares!r}, but {root} has folders of splits; remove one of the two.")
    if split not in folders:
      raise DataError(f"{root} has no folder for the split {split!r}; it has {', '.join(folders)}.")
    chosen, everything = folders[split], list(folders.values())
  else:
    require(
      shares is not None,
      f"{root} has no folder train, validation or test; make them, or give shares such as "
      '{"train": 0.8, "validation": 0.2}.',
    )
    shares, chosen, everything = check_shares(shares), root, [root]
  classes = _classes(root, everything)
  examples = []
  for name, path in _videos(chosen, classes):
    below = path.relative_to(chosen).as_posix()
    if not is_plain(below):
      raise DataError(f"{chosen}: {shown(below)} is no name in plain text; rename the file.")
    of = _group(pattern, path, below)
    if folders or split_of(of, shares) == split:
      examples.append(Example(below, str(path), {"action": classes.index(name)}, group=of))
  return make_dataset("folder", split, root, examples, {"action": classes})


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
  folders = {}
  for split in SPLITS:
    found = [root / name for name in _SPLIT_FOLDERS[split] if (root / name).is_dir()]
    if len(found) > 1:
      raise DataError(f"{found[0]} and {found[1]} are two folders for one split; move the videos into one of them.")
    if found:
      folders[split] = found[0]
  return folders


def _classes(root: pathlib.Path, folders: list[pathlib.Path]) -> tuple[str, ...]:
  """The classes of all splits, so that a class has one number in all of them."""
  names = sorted({name for folder in folders for name in directories(folder)})
  if not names:
    raise DataError(f"{root} holds no folder of a class; put the videos of each class into a folder with its name.")
  for name in names:
    if not is_plain(name):
      raise DataError(f"{root}: the folder {shown(name)} is no name of a class; rename it in plain text.")
  with_videos = {name for folder in folders for name, _ in _videos(folder, names)}
  for name in names:
    if name not in with_videos:
      raise DataError(
        f"{root}: the class {shown(name)} has no video ({_others(folders, name)}); videos end with "
        f"{', '.join(VIDEO_SUFFIXES)}: convert or rename the files, or remove the folder."
      )
  return tuple(names)


def _videos(folder: pathlib.Path, classes: list[str] | tuple[str, ...]) -> Iterator[tuple[str, pathlib.Path]]:
  for name in classes:
    for path in files_below(folder / name, _DEPTH) if (folder / name).is_dir() else ():
      if path.suffix.lower() in VIDEO_SUFFIXES:
        yield name, path


def _others(folders: list[pathlib.Path], name: str) -> str:
  """What is there in place of videos: "3 files: .txt, .zip"."""
  files = [path for folder in folders if (folder / name).is_dir() for path in files_below(folder / name, _DEPTH)]
  suffixes = sorted({path.suffix or "no suffix" for path in files})
  return f"{len(files)} files: {shown(', '.join(suffixes))}" if files else "it is empty"


def _pattern(group: str) -> re.Pattern | None:
  remedy = 'write one such as "(person[0-9]+)_".'
  require(isinstance(group, str), f"group = {group!r} is no regular expression; {remedy}")
  try:
    pattern = re.compile(group)
  except (re.error, OverflowError, RecursionError) as error:
    require(False, f"group = {group!r} is no regular expression ({error}); {remedy}")
  require(not group or pattern.groups == 1, f"group = {group!r} has {pattern.groups} parentheses, not 1; {remedy}")
  return pattern if group else None


def _group(pattern: re.Pattern | None, path: pathlib.Path, below: str) -> str:
  if pattern is None:
    return below
  match = pattern.search(below.partition("/")[2])  # the name of the class is no group
  if not match or not match[1]:
    raise DataError(f"{path}: {shown(below)} does not match group = {pattern.pattern!r}; rename it or correct group.")
  return match[1]
