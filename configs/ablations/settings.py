"""What all ablations share: the data they can be run on, and the sections of a grid."""

from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from configs import common, feature_sets

# Noise at which the best models are right in eight or nine of ten clips, so that there is room above and below.
NOISE = {
  "object_trajectory": 1.0,
  "directions": 1.0,
  "conjunction_in_time": 1.0,
  "conjunction_in_place": 1.0,
}
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


def tasks(noisy: bool) -> tuple[dict, ...]:
  """The feature-level sets as settings, with noise or without."""
  settings = []
  for task, (_, _, steps) in feature_sets.TASKS.items():
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
  noisy: bool = True,
  search: tuple[dict, ...] = ({},),
) -> ConfigDict:
  """An ablation on the feature-level sets, all four unless `arg` names one; "runlocal" is a grid of seconds.

  Raises:
    ValueError: an unknown argument or task.
  """
  arguments = common.options(arg, task="", runlocal=False)
  if arguments.task and arguments.task not in feature_sets.TASKS:
    raise ValueError(f"config argument task={arguments.task}: use one of {', '.join(feature_sets.TASKS)}.")
  config = feature_sets.get_config(arguments.task or "object_trajectory")
  settings = tasks(noisy)
  if arguments.task:
    settings = tuple(one for one in settings if one["name"] == arguments.task.replace("_", " "))
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
  settings: tuple[dict, ...] = ({"name": "config"},),
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
  settings = []
  for setting in config.ablate.settings[:2]:
    data = setting["fields"]["data"]
    short = {"steps": "4 steps", "validate_every": "4 steps"}
    settings.append({**setting, "fields": {"data": {**data, "options": {**data["options"], **few}}, "train": short}})
  config.ablate.update({"settings": tuple(settings), "seeds": (0,)})
  config.train.log_every = "1 steps"
  config.optim.warmup_steps = "1 steps"
