"""Any data set made ready: read, probed video by video, checked, indexed and reported on.

  python launch/main.py --config configs/prepare.py --workdir runs/mine_prepared --config.prepare.source=my_videos
  python launch/main.py --config configs/prepare.py:epic_kitchens --workdir runs/epic_prepared \\
    --config.prepare.source=/data/epic --config.prepare.annotations=/data/epic-kitchens-100-annotations

The argument is the data set: something_something (the layout), epic_kitchens, first_impressions, folder, csv, list; and
`shares` for a folder or a CSV file without splits: configs/prepare.py:folder,shares. Its fields are in
config.prepare.options; see gasmcast/datasets/.
Exit code 3 says that a check with the severity "error" failed; everything is written nevertheless. The result is
trained on by --config.data.dataset=index --config.data.root=runs/mine_prepared/index.
Cost: every video is decoded once, and hashed. The same command goes on after an interruption, and divides the work when
it is started on several machines that share the working directory.
"""

from ml_collections import ConfigDict, config_dict

from configs import common

_PUBLISHED = ("epic_kitchens", "first_impressions")


def get_config(arg: str = "") -> ConfigDict:
  """`arg`: dataset=something_something|epic_kitchens|first_impressions|folder|csv|list, shares (divides by chance)."""
  arguments = common.options(arg, dataset="something_something", shares=False)
  published = arguments.dataset in _PUBLISHED
  config = common.prepare(arguments.dataset, **_options(arguments.dataset))
  if arguments.shares:
    config.prepare.options.shares = ConfigDict({"train": 0.8, "validation": 0.2, "test": 0.0})
  config.prepare.splits = ("train", "validation", "test") if published else ("train", "validation")
  config.prepare.checks.official_counts.severity = "error" if published else "off"
  if arguments.dataset == "epic_kitchens":
    config.prepare.timeout = 3600.0  # a video is up to an hour long
  return config


def _options(dataset: str) -> dict:
  """Of the readers; None stands for what is as usual."""
  file = config_dict.placeholder(str)
  return {
    "epic_kitchens": {"media": "auto", "annotations": file},
    "folder": {"group": ""},
    "csv": {"file": file},
    "list": {"file": file, "rate": config_dict.placeholder(float), "answers": config_dict.placeholder(bool)},
  }.get(dataset, {})
