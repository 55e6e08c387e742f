"""The quality of a data set as one page: what quality.json of job prepare says, in words, tables, figures and pictures.

The page holds everything it shows and loads nothing; ids, paths, labels and class names are text wherever they come
from. Its size does not grow with the number of clips: lists are cut, and what was left out is named.
"""

import collections
import os
import pathlib
import urllib.parse
from collections.abc import Mapping, Sequence
from typing import Any

from gasmcast.core.errors import DataError
from gasmcast.core.manifest import atomic_file
from gasmcast.reports import wording
from gasmcast.reports.page import data_uri, render
from gasmcast.reports.quality_figures import MEASURES, SPLITS, class_counts, distributions
from gasmcast.reports.quality_numbers import (
  MEANINGS,
  NUMBERS,
  balance,
  class_changes,
  class_tables,
  compare,
  flag_order,
  measured,
  verdict,
)
from gasmcast.reports.strips import Clip, strips
from gasmcast.reports.theme import svg

FORMAT = 1
PICTURES_LIMIT = 2_400_000  # bytes of pictures, a third more inside the page, which stays below 5 MB
PICTURED = 6  # clips of one flag
CHOSEN = 12  # clips of one split; fewer each where there are many splits
_CHOSEN_IN_ALL = 96
_LISTED = 200  # rows of any list of clips
_GROUPED = 6  # ids of one group of duplicates
_CLASSES = 2_000  # rows of a table of classes
_KINDS = 10  # codecs or sizes
_FILTERS = {
  name: getattr(wording, name)
  for name in ("cut", "duration", "exact", "few_percent", "floor_percent", "number", "signed", "size")
}


def write(
  report_folder: pathlib.Path,
  quality: Mapping[str, Any],
  flagged: pathlib.Path,
  baseline: Mapping[str, Any] | None = None,
) -> pathlib.Path:
  """Writes index.html into `report_folder`; it appears whole.

  Args:
    report_folder: made if it is absent.
    quality: the content of quality.json.
    flagged: the list of all flagged clips, which the page names and links to.
    baseline: the content of an earlier quality.json to compare with.

  Returns:
    The path of index.html.

  Raises:
    DataError: `quality` or `baseline` is of another format.
  """
  check_format(quality, "the quality report")
  if baseline is not None:
    check_format(baseline, "the baseline")
  page = pathlib.Path(report_folder) / "index.html"
  content = _page(quality, _link(flagged, page.parent), baseline)
  with atomic_file(page) as file:
    file.write(content.encode("utf-8", "replace"))
  return page


def check_format(quality: Any, what: str) -> None:
  """Raises DataError unless `quality` says that it is of the format that is read here."""
  found = quality.get("format") if isinstance(quality, Mapping) else None
  if found != FORMAT:
    raise DataError(f"{what} has format {found!r}, {FORMAT} is needed: give a quality.json that job prepare wrote.")


def _link(file: pathlib.Path, folder: pathlib.Path) -> dict[str, str]:
  """The file's name and its address as seen from the page; characters that mean something in an address are quoted."""
  address = os.path.relpath(file, folder).replace(os.sep, "/")
  return {"name": file.name, "address": urllib.parse.quote(address, errors="replace")}


def _page(quality: Mapping[str, Any], flagged: Mapping[str, str], baseline: Mapping[str, Any] | None) -> str:
  splits, names = quality["splits"], quality["classes"]
  classes = class_tables(quality)
  statistics = {name: found for name, split in splits.items() if (found := measured(split))}
  flags = {flag: 0 for flag in sorted({flag for split in splits.values() for flag in split["flags"]}, key=flag_order)}
  for split in splits.values():
    for flag, clips in split["flags"].items():
      flags[flag] += clips
  return render(
    "data_quality.html",
    _charts(names, classes, statistics),
    _FILTERS,
    quality=quality,
    flagged=flagged,
    verdict=verdict(quality["checks"]),
    totals={key: sum(split[key] for split in splits.values()) for key in NUMBERS},
    flags=flags,
    meanings=MEANINGS,
    measures={key: words for key, words in MEASURES.items() if any(key in found for found in statistics.values())},
    statistics=statistics,
    classes=classes,
    balances=[balance(names[label], label, *counts) for label in classes for counts in classes[label].items()],
    kinds={kind: _commonest([split[kind] for split in splits.values()]) for kind in ("codecs", "sizes")},
    pictures=_pictures(quality),
    baseline=baseline,
    changes=[] if baseline is None else compare(baseline, quality),
    renamed=[] if baseline is None else class_changes(baseline, quality),
    limits={"listed": _LISTED, "grouped": _GROUPED, "classes": _CLASSES, "drawn": SPLITS},
  )


def _charts(
  names: Mapping[str, Sequence[str]],
  classes: Mapping[str, Mapping[str, Sequence[int]]],
  statistics: Mapping[str, Mapping[str, Any]],
) -> dict[str, bytes]:
  charts = {f"classes-{place}": class_counts(names[label], classes[label]) for place, label in enumerate(classes)}
  if statistics:
    charts["distributions"] = distributions(statistics)
  return {name: svg(figure) for name, figure in charts.items()}


def _commonest(splits: Sequence[Mapping[str, int]]) -> list[tuple[str, list[int]]]:
  """(kind, clips in each split) of the most frequent kinds of all splits; what is left is one row at the end."""
  total = collections.Counter()
  for split in splits:
    total.update(split)
  shown = sorted(total, key=lambda kind: (-total[kind], kind))[:_KINDS]
  rows = [(kind, [split.get(kind, 0) for split in splits]) for kind in shown]
  if others := len(total) - len(shown):
    rest = [sum(split.values()) - sum(split.get(kind, 0) for kind in shown) for split in splits]
    rows.append((f"{others:,} others", rest))
  return rows


def _pictures(quality: Mapping[str, Any]) -> dict[str, dict[str, list[dict[str, Any]]]]:
  """{"flags": flag -> clips, "splits": split -> clips}: each clip with "image" (address or None) and "reason"."""
  chosen = min(CHOSEN, max(2, _CHOSEN_IN_ALL // max(len(quality["splits"]), 1)))
  worst = {flag: quality["worst"][flag][:PICTURED] for flag in sorted(quality["worst"], key=flag_order)}
  rows = {
    "flags": {flag: clips for flag, clips in worst.items() if clips},
    "splits": {split: clips[:chosen] for split, clips in quality["examples"].items() if clips},
  }
  images = strips(
    [_clip(clip) for group in rows.values() for clips in group.values() for clip in clips], PICTURES_LIMIT
  )
  return {
    part: {name: [_shown(clip, images[_clip(clip)]) for clip in clips] for name, clips in group.items()}
    for part, group in rows.items()
  }


def _clip(clip: Mapping[str, Any]) -> Clip:
  return Clip(clip["path"], clip.get("start"), clip.get("stop"), clip.get("rate"))


def _shown(clip: Mapping[str, Any], image: bytes | str | None) -> dict[str, Any]:
  """The clip with the address of its image or the reason why there is none. Reasons need not repeat the path."""
  without_path = lambda text: text.removeprefix(clip["path"]).lstrip(": ")
  shown = {**clip, "why": without_path(clip.get("why", "")), "image": None, "reason": None}
  if isinstance(image, bytes):
    return shown | {"image": data_uri("image/webp", image)}
  return shown | {"reason": "left out for the size of this page" if image is None else without_path(image)}
