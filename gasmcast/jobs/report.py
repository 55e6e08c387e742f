"""Job report: turns the files of a working directory into report/index.html, and says where everything is.

Of a training that goes on, broke off or was not evaluated the page has the curves and what stands out in them; an
evaluation adds the rest.
"""

import os
import pathlib
import sys

import jax
import numpy as np
from rich.panel import Panel
from rich.table import Table

from gasmcast.core import rules
from gasmcast.core.errors import WorkdirError
from gasmcast.core.manifest import read_json
from gasmcast.features.network import RANDOM
from gasmcast.jobs import training_report
from gasmcast.jobs.evaluate import EvaluateConfig
from gasmcast.jobs.experiment import Experiment
from gasmcast.metrics.attention_heads import idle
from gasmcast.metrics.classification import confident_mistakes
from gasmcast.reports import training as training_page
from gasmcast.reports.attention import AttentionExample
from gasmcast.reports.html import Report, Run, write_report

_SCORES_SHOWN = 5
_NEXT = (
  "{python} launch/main.py --config configs/quickstart.py:motion --workdir runs/motion     # one stream alone",
  "{python} launch/main.py --config configs/quickstart.py --workdir runs/lr --config.optim.lr=1e-3     # another field",
  "{python} launch/main.py --config configs/ssv2_gasmcast.py:base --workdir runs/count --job count     # the full size",
)


def check(experiment: Experiment) -> None:
  """Whether there is an evaluation is known when its turn comes."""


def run(experiment: Experiment) -> None:
  """Writes the report about the last of `config.evaluate.splits`, or about the training alone.

  Raises:
    WorkdirError: there is neither an evaluation of that split nor a training in the working directory.
  """
  workdir, split = experiment.workdir, experiment.section("evaluate", EvaluateConfig).splits[-1]
  if jax.process_index():
    return
  metrics = read_json(workdir / "metrics.json") if (workdir / "metrics.json").is_file() else {"splits": {}}
  if split not in metrics["splits"]:
    if not training_report.trained(experiment):
      raise WorkdirError(
        f"{workdir} has neither a training nor an evaluation of the split {split!r}; run --job train, or --job "
        "evaluate, with the same --workdir."
      )
    page = training_page.write(workdir / "report", training_report.gather(experiment))
    experiment.console.print(
      f"{page}: the training. The split {split!r} is not evaluated; --job evaluate,report adds what that tells.",
      highlight=False,
      soft_wrap=True,
    )
    return
  names = read_json(workdir / "evaluation" / f"{split}.json")
  with np.load(workdir / "evaluation" / f"{split}.npz", allow_pickle=False) as file:
    arrays = dict(file)
  page = write_report(workdir / "report", _report(experiment, split, metrics["meta"], names, arrays))
  _say_where(experiment, metrics, page)


def _report(experiment: Experiment, split: str, meta: dict, names: dict, arrays: dict[str, np.ndarray]) -> Report:
  read = np.isfinite(arrays["logits"]).all(-1)
  probabilities = _softmax(arrays["logits"])
  sums = rules.unflatten(
    {name.removeprefix("sums/"): leaf for name, leaf in arrays.items() if name.startswith("sums/")}
  )
  depths = arrays["right_by_depth"]
  return Report(
    run=Run(
      command=meta["command"],
      step=meta["step"],
      data=names["data"],
      fingerprint=names["fingerprint"],
      versions=meta["versions"],
      parameters=meta["parameters"],
      weights={name: _weights(stream) for name, stream in meta["weights"].items() if name != "model"},
    ),
    split=split,
    class_names=names["classes"],
    sums=sums,
    training=training_report.gather(experiment, _idle_heads(arrays)) if training_report.trained(experiment) else None,
    pairs={kind: [tuple(pair) for pair in pairs] for kind, pairs in names["pairs"].items()},
    depth_hits=[*map(float, depths), float(np.trace(sums["confusion"]))] if len(depths) else (),
    mistakes=confident_mistakes(arrays["ids"][read], arrays["labels"][read], probabilities[read], names["classes"]),
    attention=_attention(names["classes"], arrays),
    unreadable=int(arrays["unreadable"]),
  )


def _weights(stream: dict) -> str:
  """The weights that a backbone began with, in words."""
  if stream["origin"] == RANDOM:
    return f"{stream['name']}, from scratch"
  identity = f", fingerprint {stream['fingerprint']}" if "fingerprint" in stream else ""
  return f"{stream['name']} from {stream['origin']}{identity}"


def _attention(class_names: list[str], arrays: dict[str, np.ndarray]) -> list[AttentionExample]:
  if "attention/frames" not in arrays:
    return []
  layers = sorted(name for name in arrays if name.startswith("attention/layer"))
  probabilities = _softmax(arrays["attention/logits"])
  examples = []
  for row, label in enumerate(arrays["attention/labels"]):
    order = np.argsort(-probabilities[row])[:_SCORES_SHOWN]
    examples.append(
      AttentionExample(
        id=str(arrays["attention/ids"][row]),
        frames=arrays["attention/frames"][row],
        patch_attention=arrays["attention/patches"][row],
        segment_attention=arrays["attention/segments"][row],
        time_attention={name.removeprefix("attention/"): arrays[name][row] for name in layers},
        true=class_names[label],
        predictions=[(class_names[c], float(probabilities[row, c])) for c in order],
      )
    )
  return examples


def _idle_heads(arrays: dict[str, np.ndarray]) -> tuple[str, ...] | None:
  """None where the evaluation did not look at the heads."""
  heads = {name.removeprefix("heads/"): leaf for name, leaf in arrays.items() if name.startswith("heads/")}
  return idle(heads) if heads else None


def _softmax(logits: np.ndarray) -> np.ndarray:
  logits = logits.astype(np.float64)
  exponents = np.exp(logits - logits.max(-1, keepdims=True))
  return exponents / exponents.sum(-1, keepdims=True)


def _unreadable(clips: int) -> str:
  return f", {clips} {'clip' if clips == 1 else 'clips'} could not be read (data_errors.jsonl)" if clips else ""


def _say_where(experiment: Experiment, metrics: dict, page) -> None:
  workdir, console = experiment.workdir, experiment.console
  table = Table.grid(padding=(0, 2))
  for split, numbers in metrics["splits"].items():
    table.add_row(
      split,
      f"top-1 [bold]{100 * numbers['top1']:.1f} %[/]   top-5 {100 * numbers['top5']:.1f} %   "
      f"{numbers['examples']:.0f} clips{_unreadable(numbers['unreadable'])}",
    )
  table.add_row()
  table.add_row("report", str(page))
  table.add_row("numbers", str(workdir / "metrics.json"))
  table.add_row("curves", f"{workdir / 'metrics.jsonl'}   (or: tensorboard --logdir {workdir / 'tensorboard'})")
  table.add_row("checkpoints", str(workdir / "checkpoints"))
  console.print(Panel(table, title=str(workdir), title_align="left", expand=False))
  console.print("Next:")
  for line in _NEXT:
    console.print(f"  {line.format(python=_python())}", highlight=False, soft_wrap=True)


def _python() -> str:
  """How the interpreter in use is called from here: an environment need not be activated."""
  inside = pathlib.Path(sys.executable).is_relative_to(pathlib.Path.cwd())
  return os.path.relpath(sys.executable) if inside else "python"
