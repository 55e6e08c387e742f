"""Job prepare: from a download to an index that can be trained on, and a report on its quality.

In order: unpack (where there are archives), read the annotations, probe every video, compare and summarise, check, draw
the page. The same command goes on after an interruption of any kind; started on several machines that share the working
directory, they divide the probing. The source is only read. Writes to the working directory:

    index/            every data set in one form: train on it by config.data.dataset = "index", config.data.root = this
    quality.json      the numbers of the report, see `jobs.quality_summary` and `metrics.data_quality`
    flagged.jsonl     every example that something is wrong with: {"split", "id", "path", "flags", "why"}
    videos.jsonl      what was found of each video
    checksums.b3      of each video; compared at the next run, and readable by `b3sum --check`
    report/           the page

Ends with `ChecksFailed` if a check with the severity "error" failed.
"""

import contextlib
import importlib
import os
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from gasmcast.core.checksums import Checksum, ChecksumList, read_lists
from gasmcast.core.errors import ChecksFailed, DataError
from gasmcast.core.isolation import Limits
from gasmcast.core.machine import usable_cpus
from gasmcast.core.manifest import atomic_file, read_json, write_json
from gasmcast.core.shards import Work
from gasmcast.core.types import Dataset
from gasmcast.datasets.table import DATASETS, load
from gasmcast.jobs import quality_summary, records
from gasmcast.jobs.preparation import PrepareConfig, Setup
from gasmcast.jobs.unpacking import make_root
from gasmcast.metrics.quality_checks import check as check_quality
from gasmcast.reports import data_quality as page
from gasmcast.reports.quality_numbers import compare
from gasmcast.videos import survey

SETUP = Setup
QUALITY = "quality.json"
_STATE = "prepare.json"  # {"verifications": how often all files were hashed again}


def check(setup: Setup) -> None:
  """Refuses an absent source, to write into it, and a baseline or list of checksums that can't be read."""
  setup.places.check()
  _baseline(setup.prepare)
  read_lists(setup.prepare.checksums)


def run(setup: Setup) -> None:
  """Does all of it; see the module.

  Raises:
    ChecksFailed: it is done, and a check with the severity "error" failed.
    DataError: annotations or archives can't be used.
    WorkdirError: the working directory can't be written.
  """
  config, workdir = setup.prepare, setup.workdir
  with records.writing(workdir):
    _write_records(setup)
    baseline, checksums = _baseline(config), read_lists(config.checksums)
    root = _root(setup, checksums)
    datasets = _annotations(setup, root)
    videos, numbers = _videos(datasets)
    given = _given(videos, checksums)
    with quality_summary.previous_checksums(workdir) as previous:
      work, verification = _probe(setup, videos, given)
      quality = _summarize(setup, datasets, videos, numbers, given, work, previous)
    quality["checks"] = check_quality(quality, config.checks, baseline)
    write_json(workdir / QUALITY, quality)
    write_json(workdir / _STATE, {"verifications": verification})
    survey.remove_other_rounds(work)
    report = page.write(workdir / "report", quality, workdir / quality_summary.FLAGGED, baseline)
  if baseline is not None:
    _say_changes(setup.console, baseline, quality)
  _say(setup.console, quality, report, workdir)
  _finish(quality, report)


def _write_records(setup: Setup) -> None:
  """As of other jobs, but without asking for devices: this one runs where there are none."""
  setup.workdir.mkdir(parents=True, exist_ok=True)
  write_json(setup.workdir / "config.json", setup.raw)
  write_json(setup.workdir / "environment.json", {"versions": records.versions()})
  with atomic_file(setup.workdir / "command.txt") as file:
    file.write((setup.command + "\n").encode("utf-8", "surrogateescape"))


def _baseline(config: PrepareConfig) -> Mapping[str, Any] | None:
  if config.baseline is None:
    return None
  baseline = read_json(config.baseline)
  page.check_format(baseline, f"config.prepare.baseline = {config.baseline!r}")
  return baseline


def _root(setup: Setup, checksums: ChecksumList) -> pathlib.Path:
  with _progress(setup.console, "unpacking") as progress:
    task = progress.add_task("", total=None)
    return make_root(
      setup.places,
      checksums,
      lambda line: _print(setup.console, line),
      lambda read, total: progress.update(task, completed=read, total=total),
    )


def _annotations(setup: Setup, root: pathlib.Path) -> tuple[Dataset, ...]:
  """All splits.

  Raises:
    DataError: one can't be used, or they differ in their classes.
  """
  config = setup.prepare
  options = {name: value for name, value in config.options.items() if value is not None}
  datasets = tuple(load(config.dataset, root, split, **options) for split in config.splits)
  for dataset in datasets[1:]:
    if (dataset.classes, dataset.values) != (datasets[0].classes, datasets[0].values):
      raise DataError(
        f"{root}: the splits {datasets[0].split!r} and {dataset.split!r} have different classes or values; give all "
        "splits the same."
      )
  counts = ", ".join(f"{dataset.split} {len(dataset.examples):,}" for dataset in datasets)
  classes = ", ".join(f"{len(names):,} classes of {label}" for label, names in datasets[0].classes.items())
  _print(setup.console, f"Annotations: {counts}{f'; {classes}' if classes else ''}")
  return datasets


def _videos(datasets: Sequence[Dataset]) -> tuple[list[survey.Video], list[Int[np.ndarray, "examples"]]]:
  """Every video once, by first use; and for each split the number of each example's video."""
  places: dict[tuple[str, float | None], int] = {}
  numbers = [
    np.fromiter(
      (places.setdefault((os.path.abspath(one.path), one.rate), len(places)) for one in dataset.examples),  # noqa: PTH100 - links stay
      np.int64,
      len(dataset.examples),
    )
    for dataset in datasets
  ]
  return [survey.Video(path, rate) for path, rate in places], numbers


def _given(videos: Sequence[survey.Video], checksums: ChecksumList) -> dict[str, Checksum]:
  """Path -> checksum of the videos in the given lists."""
  if not len(checksums):
    return {}
  found = ((video.path, checksums.find(video.path)) for video in videos if video.rate is None)
  return {path: one[1] for path, one in found if one is not None}


def _probe(setup: Setup, videos: Sequence[survey.Video], given: Mapping[str, Checksum]) -> tuple[Work, int]:
  """The finished survey, and how many verifications there were with it."""
  config, state_file = setup.prepare, setup.workdir / _STATE
  verification = read_json(state_file)["verifications"] if state_file.exists() else 0
  verification += config.verify
  state = survey.sizes_and_times(videos)
  algorithms = {path: (checksum.algorithm,) for path, checksum in given.items()}
  workers, limits = config.workers or usable_cpus(), Limits(config.timeout, config.memory)
  work = survey.open_round(setup.workdir / "probes", videos, state, config.shard, algorithms, verification, limits)
  for note in work.notes:
    _print(setup.console, note)
  begin, (before, _) = time.monotonic(), work.progress()
  with _progress(setup.console, "probing videos") as progress:
    task = progress.add_task("", total=len(videos), completed=before)
    done = before

    def say(looked: int) -> None:
      nonlocal done
      done = done if looked else work.progress()[0]
      progress.update(task, completed=done + looked)

    survey.run_round(work, videos, state, algorithms, workers, limits, config.verify, say)
  seconds = time.monotonic() - begin
  results = [receipt.result for receipt in work.receipts().values()]
  failed, missing = sum(result["failed"] for result in results), int((state[:, 0] < 0).sum())
  speed = f"{len(videos) - before:,} now, {(len(videos) - before) / max(seconds, 1e-9):.0f} a second"
  _print(
    setup.console,
    f"Probed: {len(videos):,} videos ({speed}), {missing:,} missing, {failed:,} that can't be read",
  )
  return work, verification


def _summarize(
  setup: Setup,
  datasets: Sequence[Dataset],
  videos: Sequence[survey.Video],
  numbers: Sequence[Int[np.ndarray, "examples"]],
  given: Mapping[str, Checksum],
  work: Work,
  previous: Any,
) -> dict[str, Any]:
  """Writes all that follows from the survey; returns quality.json without its checks."""
  config, workdir = setup.prepare, setup.workdir
  found, contents = quality_summary.gather(workdir, survey.records(work), len(videos), numbers, config.quality)
  with contextlib.closing(found):
    compared = quality_summary.compare_checksums(
      workdir, [video.path for video in videos], found, previous, config.accept_changes
    )
    wanted = config.checks.official_counts.severity != "off"
    official = getattr(importlib.import_module(DATASETS[config.dataset]), "OFFICIAL", {}) if wanted else {}
    summary = quality_summary.Summary(
      workdir=workdir,
      index=workdir / "index",
      datasets=datasets,
      numbers=numbers,
      official=official,
      given=given,
      exclude=config.exclude,
      config=config.quality,
    )
    quality = quality_summary.summarize(summary, found, contents, compared)
  fingerprint = quality.pop("fingerprint")
  data = {"name": datasets[0].name, "source": str(setup.places.source), "fingerprint": fingerprint}
  meta = {"command": setup.command, "config": setup.raw, "versions": records.versions()}
  return {"format": quality.pop("format"), "data": data, **quality, "meta": meta}


def _say_changes(console: Console, baseline: Mapping[str, Any], quality: Mapping[str, Any]) -> None:
  """What is not as in the baseline."""
  changes = [change for change in compare(baseline, quality) if change.before != change.after]
  if not changes:
    console.print("Compared with the baseline: nothing changed.")
    return
  table = Table(title="Changed since the baseline", title_justify="left")
  for column in ("split", "number", "before", "now"):
    table.add_column(column, justify="left" if column in ("split", "number") else "right")
  text = lambda value: "-" if value is None else f"{value:,.6g}" if isinstance(value, float) else f"{value:,}"
  for change in changes:
    table.add_row(change.split, change.name, text(change.before), text(change.after))
  console.print(table)


def _print(console: Console, line: str) -> None:
  """As it is: names of classes hold brackets, which rich takes for markup."""
  console.print(line, soft_wrap=True, markup=False, highlight=False)


def _say(console: Console, quality: Mapping[str, Any], report: pathlib.Path, workdir: pathlib.Path) -> None:
  table = Table(title=escape(quality["data"]["name"]), title_justify="left")
  for column in ("split", "examples", "official", "videos", "readable", "left out", "flags"):
    table.add_column(column, justify="left" if column in ("split", "flags") else "right")
  for name, split in quality["splits"].items():
    official = "-" if split["official"] is None else f"{split['official']:,}"
    flags = ", ".join(f"{flag} {count:,}" for flag, count in split["flags"].items())
    counts = [f"{count:,}" for count in (split["examples"], split["videos"], split["readable"])]
    table.add_row(name, counts[0], official, *counts[1:], f"{quality['excluded'][name]:,}", flags or "-")
  console.print(table)
  checksums = quality["checksums"]
  _print(
    console,
    f"Checksums: {checksums['files']:,} videos, {checksums['compared']:,} compared with the last run, "
    f"{checksums['changed_total']:,} changed, {checksums['new']:,} new, {checksums['gone']:,} gone",
  )
  for one in quality["checks"]:
    if not one["passed"]:
      value = f"{one['value']:g}, limit {one['limit']:g}"
      _print(console, f"{one['severity'].upper()} {one['name']}: {one['message']} ({value})")
  passed = sum(one["passed"] for one in quality["checks"])
  _print(console, f"Checks: {passed} of {len(quality['checks'])} passed")
  for name, place in (("index", workdir / "index"), ("numbers", workdir / QUALITY), ("report", report)):
    _print(console, f"{name:8s} {place}")


def _finish(quality: Mapping[str, Any], report: pathlib.Path) -> None:
  failed = [one for one in quality["checks"] if not one["passed"] and one["severity"] == "error"]
  if failed:
    said = "; ".join(f"{one['name']} ({one['message']})" for one in failed)
    raise ChecksFailed(f"{said}. {report} shows more; put the data right or change config.prepare.checks.")


def _progress(console: Console, what: str) -> Progress:
  columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
  return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
