"""EPIC-KITCHENS-100 (Damen et al. 2022, arXiv 2006.13256): actions as pairs of a verb and a noun in long videos.

    EPIC_100_train.csv               a line a segment: narration_id, participant_id, video_id, start_timestamp,
    EPIC_100_validation.csv            stop_timestamp, start_frame, stop_frame, verb_class, noun_class, ...
    EPIC_100_test_timestamps.csv     the same without answers
    EPIC_100_verb_classes.csv        id, key: 97 classes; EPIC_100_noun_classes.csv: 300
    EPIC_100_video_info.csv          video_id, duration, fps
    EPIC_100_unseen_participant_ids_validation.csv, EPIC_100_tail_verbs.csv, EPIC_100_tail_nouns.csv
    videos:  P01/videos/P01_01.MP4 (as the archives unpack), videos/P01/P01_01.MP4 or videos/P01_01.MP4
    frames:  P01/rgb_frames/P01_01/frame_0000000001.jpg, rgb_frames/P01/P01_01/... or rgb_frames/P01_01/...

The lists may also lie in epic-kitchens-100-annotations/ or annotations/.

When a segment begins and ends. The lists say it twice, in seconds and in frames, and the two don't count alike: in all
38,875 rows of the validation, test and source-domain lists the frame is floor(seconds x 60), or x 50 for the videos of
the extension (P01_101), to within one; with the true rate of each video (59.94 for most, 29.97, 47.95 or 90 for some)
it is up to 189 seconds away. 60 is the rate to which the authors resample frames, 50 that of the extension. So a
segment of a video file is [start_timestamp, stop_timestamp) in seconds, and one of extracted frames is the files
[start_frame, stop_frame), told as seconds at 60 or 50 frames a second.

Oddities of the lists are kept as published and counted by `oddities`: a segment that ends before it begins or lies
beyond the end of its video gives no frames, and whoever reads it reports it.
"""

import pathlib
import re
from collections.abc import Mapping

from gasmcast.core.config import require
from gasmcast.core.errors import DataError
from gasmcast.core.types import Dataset, Example
from gasmcast.datasets.csv_rows import Distinct, Row, read_rows
from gasmcast.datasets.dataset import make_dataset, require_folder, require_split

OFFICIAL = {"train": 67_217, "validation": 9_668, "test": 13_092}
OFFICIAL_CLASSES = {"verb": 97, "noun": 300}
LISTS = {
  "train": "EPIC_100_train.csv",
  "validation": "EPIC_100_validation.csv",
  "test": "EPIC_100_test_timestamps.csv",
}
MEDIA = ("auto", "videos", "frames")
_FOLDERS = ("", "epic-kitchens-100-annotations", "annotations")
_VIDEOS = tuple(
  f"{place}.{suffix}"
  for suffix in ("MP4", "mp4")
  for place in ("{person}/videos/{video}", "videos/{person}/{video}", "videos/{video}")
)
_FRAMES = ("{person}/rgb_frames/{video}", "rgb_frames/{person}/{video}", "rgb_frames/{video}")
_VIDEO = re.compile(r"(P[0-9]{2})_([0-9]{2,3})")
_TIME = re.compile(r"([0-9]{1,3}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]{1,6})?)")
_ITEM = re.compile(r"""\s*(?:'([^'\\]*)'|"([^"\\]*)"|([0-9]{1,9}))\s*""")
_SEGMENT_COLUMNS = ("narration_id", "participant_id", "video_id", "start_timestamp", "stop_timestamp")
_FRAME_COLUMNS = ("start_frame", "stop_frame")
_CLASS_COLUMNS = ("verb_class", "noun_class")
_INFO_COLUMNS = ("video_id", "duration")


def load(root: str | pathlib.Path, split: str, *, media: str = "auto", annotations: str = "") -> Dataset:
  """The segments of one split with the labels "verb" and "noun", in the order of the list.

  The group of an example is its video: every video stands in one split alone. Of the 32 participants of the validation
  split 30 are in the training split too, as the authors meant it; `participant` tells them.

  Args:
    root: holds lists and videos.
    split: "train", "validation" or "test"; the examples of "test" have no labels.
    media: "videos" (files), "frames" (folders of extracted frames), or "auto": a video's file where there is one,
      else its folder.
    annotations: a list in place of the official one of the split; without the class columns it gives no labels.

  Raises:
    ConfigError: `split` or `media` is none of those.
    DataError: a file is missing or broken, or there is no video of the split. The message names file, line and column.
  """
  require_split(split)
  require(media in MEDIA, f"media = {media!r} is none of {', '.join(MEDIA)}.")
  root = pathlib.Path(root)
  require_folder(root, f"{LISTS[split]} and the videos")
  classes = {"verb": _classes(root, "EPIC_100_verb_classes.csv"), "noun": _noun_classes(root)}
  rows = _rows(root, split, annotations)
  videos = list(dict.fromkeys(_video(row) for row in rows))
  layouts = _layouts(root, split, videos, media)
  ids, examples = Distinct(), []
  for row in rows:
    ids.add(row, "narration_id", row.file_name("narration_id"))
    examples.append(_example(root, row, layouts[row.cells["video_id"]], classes))
  return make_dataset("epic_kitchens", split, root, examples, classes)


def participant(example: Example) -> str:
  """Who wears the camera: "P01"."""
  return example.group.split("_")[0]


def unseen_participants(root: str | pathlib.Path, split: str = "validation") -> tuple[str, ...]:
  """The participants of the split that are not in the training split, as the authors list them ("P18", "P32").

  Raises:
    DataError: the list is missing or broken.
  """
  rows = read_rows(_list(pathlib.Path(root), f"EPIC_100_unseen_participant_ids_{split}.csv"), ("participant_id",))
  return tuple(row.file_name("participant_id") for row in rows)


def tail_classes(root: str | pathlib.Path) -> dict[str, tuple[int, ...]]:
  """{"verb": (...), "noun": (...)}: the classes that are rare in training, as the authors list them.

  Raises:
    DataError: a list is missing or broken.
  """
  root, tails = pathlib.Path(root), {}
  for label, classes in (("verb", _classes(root, "EPIC_100_verb_classes.csv")), ("noun", _noun_classes(root))):
    rows, distinct = read_rows(_list(root, f"EPIC_100_tail_{label}s.csv"), (label,)), Distinct()
    for row in rows:
      distinct.add(row, label, row.whole(label, 0, len(classes) - 1))
    tails[label] = tuple(int(row.cells[label]) for row in rows)
  return tails


def oddities(root: str | pathlib.Path, split: str, *, annotations: str = "") -> dict[str, int]:
  """What is strange in the list of a split -> number of segments; the examples are as published all the same.

  Raises:
    DataError: as `load`; EPIC_100_video_info.csv is needed.
  """
  root = pathlib.Path(root)
  infos = {row.cells["video_id"]: row for row in read_rows(_list(root, "EPIC_100_video_info.csv"), _INFO_COLUMNS)}
  ends = {video: row.decimal("duration") for video, row in infos.items()}
  found = dict.fromkeys(
    ("no video info", "ends before it begins", "begins beyond the end", "ends beyond the end", "frames elsewhere"), 0
  )
  found["another noun first"] = 0
  for row in _rows(root, split, annotations):
    start, stop = _seconds(row, "start_timestamp"), _seconds(row, "stop_timestamp")
    end, rate = ends.get(_video(row)), frame_rate(row.cells["video_id"])
    found["no video info"] += end is None
    found["ends before it begins"] += stop <= start
    found["begins beyond the end"] += end is not None and start >= end
    found["ends beyond the end"] += end is not None and start < end < stop
    if all(column in row.cells for column in _FRAME_COLUMNS):
      away = max(abs(start * rate - row.whole("start_frame")), abs(stop * rate - row.whole("stop_frame")))
      found["frames elsewhere"] += away > 2
    if "all_noun_classes" in row.cells:
      nouns = python_list(row, "all_noun_classes")
      found["another noun first"] += nouns[:1] != [row.cells.get("noun_class")]
  return found


def frame_rate(video: str) -> float:
  """Frames a second in which the authors count, and extract, the frames of a video: 50 in the extension, else 60."""
  return 50.0 if len(video.split("_")[1]) == 3 else 60.0


def python_list(row: Row, column: str) -> list[str]:
  """The items of a cell such as "['door', 'cup:tea']" or "[3, 13]", as text; read item by item, nothing is evaluated.

  Raises:
    DataError: it is no such list.
  """
  text = row.cells[column]
  inner = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else None
  items, position = [], 0
  while inner is not None and position < len(inner):
    match = _ITEM.match(inner, position)
    if not match or (match.end() < len(inner) and inner[match.end()] != ","):
      inner = None
    else:
      items.append(next(group for group in match.groups() if group is not None))
      position = match.end() + 1
  if inner is None or inner.endswith(","):
    raise row.error(column, "is no list such as ['door', 'cup'] or [3, 13]; correct it.")
  return items


def _list(root: pathlib.Path, name: str) -> pathlib.Path:
  for folder in _FOLDERS:
    if (root / folder / name).is_file():
      return root / folder / name
  places = ", ".join(str(pathlib.Path(folder, name)) for folder in _FOLDERS)
  raise DataError(
    f"{root} holds no {name} (looked for {places}); "
    "it is part of github.com/epic-kitchens/epic-kitchens-100-annotations."
  )


def _rows(root: pathlib.Path, split: str, annotations: str) -> list[Row]:
  require_split(split)
  require(isinstance(annotations, str), f"annotations = {annotations!r} is no path of a CSV file.")
  answers = _CLASS_COLUMNS if split != "test" and not annotations else ()
  return read_rows(_list(root, annotations or LISTS[split]), (*_SEGMENT_COLUMNS, *answers))


def _classes(root: pathlib.Path, name: str, limit: int | None = None) -> tuple[str, ...]:
  rows, ids, keys = read_rows(_list(root, name), ("id", "key")), Distinct(), Distinct()
  names = {}
  for row in rows:
    number = row.whole("id", 0, len(rows) - 1)  # distinct and below their number: 0 to n - 1, each once
    ids.add(row, "id", number)
    keys.add(row, "key", row.text("key"))
    names[number] = row.cells["key"]
  return tuple(names[number] for number in range(len(names)))[:limit]


def _noun_classes(root: pathlib.Path) -> tuple[str, ...]:
  first, second = "EPIC_100_noun_classes.csv", "EPIC_100_noun_classes_v2.csv"
  there = [name for name in (first, second) if any((root / folder / name).is_file() for folder in _FOLDERS)]
  # The second list is the first and five more, which no segment has.
  return _classes(root, second, OFFICIAL_CLASSES["noun"]) if there == [second] else _classes(root, first)


def _video(row: Row) -> str:
  match = _VIDEO.fullmatch(row.cells["video_id"])
  if not match:
    raise row.error("video_id", "is no video such as P01_01 or P01_101; correct it.")
  if match[1] != row.cells["participant_id"]:
    raise row.error("participant_id", f"is not the participant of the video {match[0]}; correct either.")
  return match[0]


def _layouts(root: pathlib.Path, split: str, videos: list[str], media: str) -> dict[str, str]:
  """Video -> the pattern under which it lies; one that is nowhere gets that of the first that is somewhere."""
  patterns = (_VIDEOS if media != "frames" else ()) + (_FRAMES if media != "videos" else ())
  found = {video: next((p for p in patterns if _path(root, p, video).exists()), None) for video in videos}
  usual = next((pattern for pattern in found.values() if pattern), None)
  if usual is None:
    places = ", ".join(str(_path(pathlib.Path(), pattern, videos[0])) for pattern in patterns)
    raise DataError(
      f"{root} holds no video of the split {split!r}; for {videos[0]} looked for {places}. Put them into one of these "
      "places."
    )
  return {video: pattern or usual for video, pattern in found.items()}


def _path(root: pathlib.Path, pattern: str, video: str) -> pathlib.Path:
  return root / pattern.format(person=video.split("_")[0], video=video)


def _example(root: pathlib.Path, row: Row, pattern: str, classes: Mapping[str, tuple[str, ...]]) -> Example:
  video = row.cells["video_id"]
  rate = frame_rate(video) if pattern in _FRAMES else None
  if rate is None:
    start, stop = _seconds(row, "start_timestamp"), _seconds(row, "stop_timestamp")
  elif not all(column in row.cells for column in _FRAME_COLUMNS):
    raise DataError(f"{row.file} has no columns start_frame and stop_frame, which extracted frames need; add them.")
  else:  # the first frame is number 1
    start, stop = ((row.whole(column, 1) - 1) / rate for column in _FRAME_COLUMNS)
  labels = {
    label: row.whole(f"{label}_class", 0, len(names) - 1)
    for label, names in classes.items()
    if f"{label}_class" in row.cells
  }
  path = str(_path(root, pattern, video))
  return Example(row.cells["narration_id"], path, labels, start, stop, group=video, rate=rate)


def _seconds(row: Row, column: str) -> float:
  match = _TIME.fullmatch(row.cells[column])
  if not match:
    raise row.error(column, "is no time such as 00:01:23.45; correct it.")
  return round(int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3]), 6)
