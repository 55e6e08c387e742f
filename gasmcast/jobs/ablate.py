"""Job ablate: a grid of trainings, variants x settings x seeds, and a table of what makes a difference.

Every training is a run of its own, trained and evaluated as jobs train and evaluate do. The same command again goes on,
and adds variants or seeds that have come; at the same time, on any machine that sees the folder, it is another worker.

Writes ablation.md, .csv, .tex, .json and figures/ablation.png, .pdf; the trainings are in runs/.
"""

import collections
import datetime
import pathlib
import statistics
import threading
from collections.abc import Mapping, Sequence

import jax
from rich.console import Console
from rich.table import Table

from gasmcast.core import machine
from gasmcast.core.config import require, to_dict
from gasmcast.core.errors import Stopped, WorkdirError
from gasmcast.core.manifest import atomic_file, write_json
from gasmcast.jobs import evaluate, records, train, training_workers
from gasmcast.jobs.ablation import Cell, Plan, leaves
from gasmcast.jobs.ablation_worker import RESULT, Result, read_result, work
from gasmcast.jobs.experiment import Experiment
from gasmcast.metrics.differences import exceeds, mean_and_deviation, paired
from gasmcast.reports import ablation as report
from gasmcast.reports.console import print_table
from gasmcast.reports.theme import LIGHT, pdf, raster
from gasmcast.reports.wording import duration

_DPI = 130
Results = Mapping[pathlib.PurePath, Result]  # of the trainings that have ended, by folder


def check(experiment: Experiment) -> None:
  """Refuses a variant that is impossible, on whichever setting, and a machine that can't share its GPUs."""
  plan = Plan(experiment)
  config, console = plan.config, Console(quiet=True)
  require(
    jax.process_count() == 1,
    f"--job ablate in {jax.process_count()} processes of one training: a training of the grid has one process. Start "
    "the same command on each machine without jax.distributed; they share the grid of the workdir.",
  )
  training_workers.require_gpus("config.ablate", config.workers, config.gpus)
  if (experiment.workdir / "checkpoints").exists():
    raise WorkdirError(f"{experiment.workdir} holds a training; choose another --workdir for an ablation.")
  for cell in plan.cells:
    if cell.seed == config.seeds[0]:
      part = plan.experiment(cell, console)
      train.check(part)
      evaluate.check(part)


def run(experiment: Experiment) -> None:
  """Trainings, then the tables. What failed before is tried again.

  Raises:
    Stopped: told to stop; the same command goes on.
    WorkdirError: the folder can't be written.
    DataError: a data set that can't be used.
  """
  plan, workdir = Plan(experiment), experiment.workdir
  records.write(experiment)
  for folder, result in read_results(plan, workdir).items():
    if result.failed:
      with records.writing(workdir):
        (workdir / folder / RESULT).unlink(missing_ok=True)
  with training_workers.saying_when_stopped(experiment.console):
    results = _train(experiment, plan)
  _write(experiment, plan, results)


def _train(experiment: Experiment, plan: Plan) -> Results:
  """Has all workers of this machine work until every training has a result."""
  config, workdir = plan.config, experiment.workdir
  watch = _Watch(experiment.console, plan, workdir)
  arguments = (experiment.raw, str(workdir), experiment.command)
  training_workers.run(work, arguments, config.workers, config.gpus, experiment.console, watch)
  results = read_results(plan, workdir)
  if left := len(plan.cells) - len(results):
    raise Stopped(f"Told to stop: {left} trainings have not ended; the same command goes on.")
  return results


def read_results(plan: Plan, workdir: pathlib.Path) -> Results:
  """Those of the trainings that have ended, the failed ones included."""
  found = {cell.folder: read_result(plan, workdir, cell) for cell in plan.cells}
  return {folder: result for folder, result in found.items() if result is not None}


class _Watch:
  """Says of every training that has ended, wherever it was worked on, how it did."""

  def __init__(self, console: Console, plan: Plan, workdir: pathlib.Path):
    self._console, self._plan, self._workdir = console, plan, workdir
    self._said, self._lock = set(read_results(plan, workdir)), threading.Lock()
    config, total = plan.config, len(plan.cells)
    self._say(
      f"{config.question}: {len(config.variants)} variants on {len(config.settings)} settings with "
      f"{len(config.seeds)} seeds and {len(config.search)} points, {total} trainings, {len(self._said)} have ended, "
      f"{config.workers} workers here."
    )

  def __call__(self) -> None:
    with self._lock:
      for cell in self._plan.cells:
        if cell.folder in self._said:
          continue
        result = read_result(self._plan, self._workdir, cell)
        if result is not None:
          self._said.add(cell.folder)
          self._say(f"{len(self._said)}/{len(self._plan.cells)}  {self._told(cell, result)}")

  def _told(self, cell: Cell, result: Result) -> str:
    point = f", point {cell.point}" if len(self._plan.config.search) > 1 else ""
    how = f"failed: {result.failed}" if result.failed else f"{self._plan.config.metric} {result.value:.4f}"
    return f"{cell.setting}, {cell.variant}{point}, seed {cell.seed}: {how} ({duration(result.seconds)})"

  def _say(self, line: str) -> None:
    self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def rows(plan: Plan, results: Results) -> list[report.Row]:
  """A row for each variant on each setting, in the order of the configuration."""
  cells: dict[tuple[str, str], list[Cell]] = collections.defaultdict(list)
  for cell in plan.cells:
    cells[cell.setting, cell.variant].append(cell)
  chosen = {key: _best_point(of_variant, results) for key, of_variant in cells.items()}
  found = []
  for (setting, variant), of_variant in chosen.items():
    reference = chosen[setting, plan.config.reference]
    found.append(_row(plan, setting, variant, of_variant, reference, results))
  return found


def _best_point(cells: Sequence[Cell], results: Results) -> list[Cell]:
  """The trainings with the point of the search that has the best mean on validation; the first of equals. A point at
  which a training failed comes after all others."""
  by_point: dict[int, list[Cell]] = collections.defaultdict(list)
  for cell in cells:
    by_point[cell.point].append(cell)

  def quality(point: int) -> tuple[int, float]:
    values = [results[cell.folder].validation for cell in by_point[point]]
    known = [value for value in values if value is not None]
    return len(known) - len(values), statistics.fmean(known) if known else 0.0

  return by_point[max(sorted(by_point), key=quality)]


def _row(
  plan: Plan, setting: str, variant: str, cells: Sequence[Cell], reference: Sequence[Cell], results: Results
) -> report.Row:
  of_seed = {cell.seed: results[cell.folder] for cell in cells}
  values = {seed: result.value for seed, result in of_seed.items() if result.value is not None}
  others = {cell.seed: results[cell.folder].value for cell in reference}
  both = [seed for seed in values if others.get(seed) is not None]
  difference = None
  if variant != plan.config.reference and both:
    difference = paired([values[seed] for seed in both], [others[seed] for seed in both])
  done = [of_seed[seed] for seed in values]
  mean, deviation = mean_and_deviation(list(values.values())) if values else (float("nan"), 0.0)
  ceiling = plan.ceiling(setting, variant)
  over = ceiling is not None and any(exceeds(one.value, float(ceiling), one.examples) for one in done)
  first = done[0] if done else Result("")
  point = plan.config.search[cells[0].point] if len(plan.config.search) > 1 else {}
  memory = [one.step_bytes for one in done if one.step_bytes is not None]
  return report.Row(
    setting=setting,
    variant=variant,
    values=values,
    mean=mean,
    deviation=deviation,
    difference=difference,
    ceiling=None if ceiling is None else float(ceiling),
    exceeds=over,
    pairs={kind: statistics.fmean(one.pairs[kind] for one in done if kind in one.pairs) for kind in first.pairs},
    trained=first.trained,
    macs=first.macs,
    step_seconds=statistics.median(one.step_seconds for one in done) if done else 0.0,
    step_bytes=memory[0] if memory else None,
    point=", ".join(f"{name} {value}" for name, value in leaves(point, plan.raw(cells[0]), "")),
    failed={seed: result.failed for seed, result in of_seed.items() if result.failed},
  )


def _write(experiment: Experiment, plan: Plan, results: Results) -> None:
  """Tables and figure, in the workdir and on the console."""
  workdir, found, header = experiment.workdir, rows(plan, results), _header(experiment, plan, results)
  figure = report.figure(found, header)
  files = {
    "ablation.md": report.markdown(found, header, "figures/ablation.png").encode("utf-8"),
    "ablation.csv": report.to_csv(found).encode("utf-8"),
    "ablation.tex": report.latex(found, header).encode("utf-8"),
    "figures/ablation.png": raster(figure, LIGHT, "png", _DPI),
    "figures/ablation.pdf": pdf(figure),
  }
  with records.writing(workdir):
    for name, content in files.items():
      with atomic_file(workdir / name) as file:
        file.write(content)
    told = [to_dict(row._asdict() | {"difference": row.difference and row.difference._asdict()}) for row in found]
    meta = {"command": experiment.command, "config": experiment.raw, "versions": records.versions()}
    write_json(workdir / "ablation.json", {"header": header._asdict(), "rows": told, "meta": meta})
  _say_end(experiment.console, workdir, found, header)


def _header(experiment: Experiment, plan: Plan, results: Results) -> report.Header:
  config, described = plan.config, machine.describe()
  spent = sum(result.seconds for result in results.values())
  beside = f", {config.workers} trainings at a time, which slow each other" if config.workers > 1 else ""
  versions = ", ".join(f"{name} {version}" for name, version in records.versions().items())
  date = datetime.datetime.now(datetime.UTC).date().isoformat()
  notes = (
    f"    {experiment.command}",
    "",
    f"{date}; {described['cpu']}, {machine.usable_cpus()} CPUs, jax on {jax.local_device_count()} x "
    f"{jax.local_devices()[0].device_kind}; {len(results)} trainings, together {duration(spent)}{beside}; {versions}.",
  )
  return report.Header(
    config.question, config.metric, config.split, config.reference, config.seeds, len(config.search), notes
  )


def _say_end(console: Console, workdir: pathlib.Path, found: Sequence[report.Row], header: report.Header) -> None:
  for setting, of_setting in report.by_setting(found).items():
    heads = report.columns(of_setting)
    table = Table(*heads, title=setting, title_justify="left")
    for row in of_setting:
      table.add_row(*report.cells(row, heads))
    print_table(console, table)
  for line in report.sentences(found, header):
    console.print(line, highlight=False, markup=False, soft_wrap=True)
  console.print(f"Tables: {workdir / 'ablation.md'}, .csv, .tex, .json", highlight=False, markup=False, soft_wrap=True)
