"""The ablations that come with the project: that every grid can be trained, that together they ask what they should."""

import importlib

import pytest
from rich.console import Console

from configs.ablations.settings import NOISE
from gasmcast.fusion.config import VARIANTS
from gasmcast.jobs import ablate
from gasmcast.jobs.ablation import Plan
from gasmcast.jobs.experiment import Experiment

CONFIGS = {
  "ablations.ceilings": ("", ":conjunction_in_time"),
  "ablations.fusion": ("", ":conjunction_in_place"),
  "ablations.graph": ("",),
  "ablations.bias": ("",),
  "ablations.progression": ("",),
  "ablations.bottleneck": ("",),
  "ablations.pooling": ("",),
  "ablations.streams": ("",),
  "ablations.tokens": ("", ":semantic"),
  "moving_objects": ("",),
}
CASES = [(name, arg) for name, args in CONFIGS.items() for arg in args]


def config_of(name, arg):
  return importlib.import_module(f"configs.{name}").get_config(arg.removeprefix(":"))


@pytest.fixture
def untraced(monkeypatch):
  monkeypatch.setattr("gasmcast.jobs.experiment.Experiment._check_model", lambda self: None)


@pytest.mark.parametrize(("name", "arg"), CASES)
def test_every_grid_is_accepted(make, untraced, name, arg):
  """Every variant on every setting, as far as it can be told without tracing a network."""
  plan = Plan(make(config_of(name, arg)))
  config = plan.config
  assert config.seeds == (0, 1, 2) and config.variants[0].name == config.reference == "GASM-CAST"
  assert not config.variants[0].fields, "the reference is what the configuration says"
  assert len(plan.cells) == len(config.variants) * len(config.settings) * len(config.search) * 3
  first_seed = [cell for cell in plan.cells if cell.seed == 0]
  assert len({plan.identity(cell) for cell in first_seed}) == len(first_seed), "two rows are one training"
  for cell in first_seed:
    plan.experiment(cell, Console(quiet=True))


def test_all_have_one_search(untraced, make):
  """Vanilla cross-attention and all others have the two learning rates that GASM-CAST has."""
  plan = Plan(make(config_of("ablations.fusion", "")))
  rates = {name: set() for name in (variant.name for variant in plan.config.variants)}
  for cell in plan.cells:
    rates[cell.variant].add(cell.values["optim.lr"])
  assert set(map(frozenset, rates.values())) == {frozenset({1e-3, 3e-3})}


def values(field):
  """What the ablations set a field of the fusion to, and what it is in their configuration."""
  found = set()
  for name, arg in CASES:
    config = config_of(name, arg)
    given = config.model.fusion[field]
    found.add(getattr(VARIANTS[config.model.variant], field) if given is None else given)
    for variant in config.ablate.variants:
      found |= {value for key, value in variant["fields"].get("model", {}).get("fusion", {}).items() if key == field}
  return found


@pytest.mark.parametrize(
  ("field", "wanted"),
  [
    ("exchange", {"bcast", "vanilla"}),
    ("join", {"concat", "mlp", "product"}),
    ("pooling", {"attentive", "mean", "flat", "lstm", "scores"}),
    ("direction", {"both", "motion_to_semantic", "semantic_to_motion"}),
    ("streams", {"both", "semantic", "motion"}),
    ("graph_neighbours", {"none", "structural", "similarity", "both", "complete", "random"}),
    ("graph_score", {"dot", "gatv2"}),
    ("graph_width", {"bottleneck", "full"}),
    ("relative_bias", {"none", "absolute", "signed"}),
    ("zero_init", {True, False}),
    ("auxiliary", {True, False}),
    ("bcast_ffn_ratio", {0.0, 4.0}),
    ("heads", {2, 8}),
  ],
)
def test_what_the_specification_compares_is_compared(field, wanted):
  assert wanted <= values(field)


def test_noise_is_of_known_tasks_and_only_where_it_is_wanted():
  for name, noisy in (("ablations.ceilings", False), ("ablations.graph", True)):
    for setting in config_of(name, "").ablate.settings:
      options = setting["fields"]["data"]["options"]
      assert options["noise"] == (NOISE[options["task"]] if noisy else 0.0)


@pytest.mark.parametrize(("arg", "message"), [("task=x", "task=x: use one of"), ("tsak=x", "tsak")])
def test_a_wrong_argument_is_refused(arg, message):
  with pytest.raises(ValueError, match=message):
    config_of("ablations.graph", arg)


TOP = {"object_trajectory": 0.98, "conjunction_in_time": 0.95, "conjunction_in_place": 0.95}
RESTRICTED = ("semantic alone", "motion alone", "late concat of means", "GASM-CAST without signs")


@pytest.mark.long
@pytest.mark.parametrize("task", list(TOP))
def test_gasmcast_reaches_the_top_and_what_sees_less_stays_below_its_ceiling(tmp_path, task):
  """Real trainings, three seeds, each at full length: a quarter of an hour a task on two cores."""
  config = config_of("ablations.ceilings", task)
  kept = [variant for variant in config.ablate.variants if variant["name"] in ("GASM-CAST", *RESTRICTED)]
  config.ablate.variants = tuple(kept)
  experiment = Experiment(config, tmp_path / "run", "python launch/main.py", Console(quiet=True))
  ablate.check(experiment)
  ablate.run(experiment)
  plan = Plan(experiment)
  rows = {row.variant: row for row in ablate.rows(plan, ablate.read_results(plan, experiment.workdir))}
  assert set(rows) == {"GASM-CAST", *RESTRICTED} and not any(row.failed for row in rows.values())
  assert min(rows["GASM-CAST"].values.values()) >= TOP[task]
  for name in RESTRICTED:
    row, clips = rows[name], config.data.options.test
    error = (row.ceiling * (1 - row.ceiling) / clips) ** 0.5
    assert max(row.values.values()) <= row.ceiling + 3 * error, name
