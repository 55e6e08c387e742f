"""What all ablations share: the data they can be run on, and the sections of a grid."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import common, feature_sets

# Noise at which the best models are right in eight or nine of ten clips, so that there is room above and below.
NOISE = {
  "object_trajectory": 0.75,
  "directions": 0.2,
  "conjunction_in_time": 0.7,
  "conjunction_in_place": 1.0,
}
DESIGN = ("object_trajectory", "conjunction_in_time")  # motion of one vector a segment, which is the cheaper half
LATE = {"graph_neighbours": "none", "windows": (), "merge_before": ()}  # the streams meet where they are joined
UNSIGNED = {"relative_bias": "absolute", "time_embedding": False, "space_embedding": False, "pool_time_bias": False}
VANILLA = {"exchange": "vanilla", "windows": (7, 7, 7), "merge_before": (), "relative_bias": "none"}


def variant(name: str, view: str = "everything", model: Mapping[str, Any] | None = None, **fusion: Any) -> dict:
  """A row of the table: the fields of the fusion, and of the model, in which it differs.

  Args:
    view: what it can see of a clip at most, see docs/ceilings.md.
  """
  fields = dict(model or {}) | ({"fusion": fusion} if fusion else {})
  return {"name": name, "fields": {"model": fields} if fields else {}, "view": view}


def on_tasks(names: Sequence[str], noisy: bool) -> tuple[dict, ...]:
  """These feature-level sets as settings, with noise or without."""
  settings = []
  for task in names:
    steps = feature_sets.TASKS[task][2]
    data = feature_sets.data(task).to_dict()
    data["options"]["noise"] = NOISE[task] if noisy else 0.0
    durations = {"steps": f"{steps} steps", "validate_every": f"{steps} steps"}
    settings.append({"name": task.replace("_", " "), "fields": {"data": data, "train": durations}})
  return tuple(settings)


def ablation(
  arg: str,
  question: str,
  variants: Sequence[dict],
  reference: str = "GASM-CAST",
  tasks: Sequence[str] = tuple(feature_sets.TASKS),
  noisy: bool = True,
  search: tuple[dict, ...] = ({},),
) -> ConfigDict:
  """An ablation on feature-level sets.

  Args:
    arg: names one task in place of `tasks`; "runlocal" is a grid of seconds.
    noisy: whether the features have `NOISE`.

  Raises:
    ValueError: an unknown argument or task.
  """
  arguments = common.options(arg, task="", runlocal=False)
  if arguments.task and arguments.task not in feature_sets.TASKS:
    raise ValueError(f"config argument task={arguments.task}: use one of {', '.join(feature_sets.TASKS)}.")
  config = feature_sets.get_config(arguments.task or "object_trajectory")
  settings = on_tasks([arguments.task] if arguments.task else tasks, noisy)
  config.job = "ablate"
  config.train.trackers = ()
  config.ablate = grid(question, variants, reference, settings, search)
  if arguments.runlocal:
    make_small(config)
  return config


def grid(
  question: str,
  variants: Sequence[dict],
  reference: str,
  settings: tuple[dict, ...],
  search: tuple[dict, ...] = ({},),
) -> ConfigDict:
  """`config.ablate`, see jobs/ablation.py."""
  return ConfigDict(
    {
      "question": question,
      "variants": tuple(variants),
      "reference": reference,
      "settings": settings,
      "seeds": (0, 1, 2),
      "search": search,
      "metric": "top1",
      "split": "test",
      "workers": 1,
      "gpus": 0,
    }
  )


def make_small(config: ConfigDict) -> None:
  """Two settings, one seed, four steps, few clips: to see that it works."""
  few = {"train": 64, "validation": 32, "test": 32}
  short = {"steps": "4 steps", "validate_every": "4 steps"}
  settings = []
  for setting in config.ablate.settings[:2]:
    data = setting["fields"]["data"]
    settings.append({**setting, "fields": {"data": {**data, "options": {**data["options"], **few}}, "train": short}})
  config.ablate.update({"settings": tuple(settings), "seeds": (0,)})
  config.train.log_every = "1 steps"
  config.optim.warmup_steps = "1 steps"
