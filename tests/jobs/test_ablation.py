"""What an ablation asks for: the grid, and what is refused before anything is trained."""

import pathlib
from fractions import Fraction

import pytest
from rich.console import Console

from configs import feature_sets
from gasmcast.core.config import parse
from gasmcast.core.errors import ConfigError
from gasmcast.jobs.ablation import AblateConfig, Plan, Setting, Variant, slug

FLAT = {"windows": (), "merge_before": (), "pooling": "flat"}
VARIANTS = (
  {"name": "ours"},
  {"name": "late, flat", "fields": {"model": {"fusion": FLAT}}, "view": "frames"},
)


@pytest.fixture
def plan(make, monkeypatch):
  """Makes the plan of an ablation with these fields on the smallest feature set; the model isn't traced."""
  monkeypatch.setattr("gasmcast.jobs.experiment.Experiment._check_model", lambda self: None)

  def plan_of(task="conjunction_in_place", **fields):
    config = feature_sets.get_config(f"{task},runlocal")
    with config.unlocked():
      config.ablate = {"variants": VARIANTS, "reference": "ours"} | fields
    return Plan(make(config))

  return plan_of


def test_the_grid_in_its_order_with_a_folder_a_training(plan):
  settings = ({"name": "Few", "fields": {"data": {"options": {"train": 8}}}}, {"name": "as it is"})
  cells = plan(settings=settings, seeds=(3, 1)).cells
  assert [(cell.setting, cell.variant, cell.seed) for cell in cells] == [
    *(("Few", "ours", 3), ("Few", "ours", 1), ("Few", "late, flat", 3), ("Few", "late, flat", 1)),
    *(("as it is", "ours", 3), ("as it is", "ours", 1), ("as it is", "late, flat", 3), ("as it is", "late, flat", 1)),
  ]
  assert cells[2].folder == pathlib.PurePath("runs/few/late_flat/seed3") and len({cell.folder for cell in cells}) == 8
  assert cells[2].values == {
    "data.options.train": 8,
    "model.fusion.windows": (),
    "model.fusion.merge_before": (),
    "model.fusion.pooling": "flat",
    "seed": 3,
  }


def test_every_variant_has_the_same_search(plan):
  made = plan(search=({"optim": {"lr": 0.1}}, {"optim": {"lr": 0.2}}), seeds=(0,))
  found = [(cell.variant, cell.point, cell.values["optim.lr"], cell.folder.parts[-2]) for cell in made.cells]
  assert found == [
    *(("ours", 0, 0.1, "point0"), ("ours", 1, 0.2, "point1")),
    *(("late, flat", 0, 0.1, "point0"), ("late, flat", 1, 0.2, "point1")),
  ]


def test_a_point_of_the_search_has_the_last_word(plan):
  variants = ({"name": "ours", "fields": {"optim": {"lr": 0.5}}},)
  (cell,) = plan(variants=variants, search=({"optim": {"lr": 0.1}},), seeds=(0,)).cells
  assert cell.values["optim.lr"] == 0.1


def test_a_training_is_an_experiment_like_any_other(plan):
  made = plan()
  cell = made.cells[-1]
  experiment = made.experiment(cell, Console(quiet=True))
  assert experiment.seed == 2 and experiment.model.fusion.pooling == "flat" and experiment.model.fusion.windows == ()
  assert experiment.workdir.parts[-3:] == ("config", "late_flat", "seed2")
  assert "--job train,evaluate" in experiment.command
  assert (
    "'--config.model.fusion.merge_before=()' --config.model.fusion.pooling=flat --config.seed=2" in experiment.command
  )
  assert "ablate" not in experiment.raw and experiment.raw["evaluate"]["splits"] == ["validation", "test"]


def test_the_identity_is_that_of_one_training_and_not_of_the_grid(plan):
  one, other = plan(), plan(variants=(*VARIANTS, {"name": "new"}), workers=2, seeds=(0, 1, 2, 3))
  identities = {cell.folder: other.identity(cell) for cell in other.cells}
  assert all(identities[cell.folder] == one.identity(cell) for cell in one.cells)
  assert len(set(identities.values())) == 3 * 4 - 4  # "ours" and "new" have the same fields
  changed = plan(variants=({"name": "ours", "fields": {"optim": {"lr": 0.5}}},))
  assert changed.identity(changed.cells[0]) != one.identity(one.cells[0])


def test_ceilings_are_those_of_the_task_and_the_view(plan):
  made = plan()
  assert made.ceiling("config", "ours") == 1 and made.ceiling("config", "late, flat") == Fraction(1, 2)
  assert plan("conjunction_in_time").ceiling("config", "late, flat") == 1


def test_names_of_folders():
  assert slug("Late concat, MLP (big)") == "late_concat_mlp_big" and slug("+-") == ""


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"reference": "theirs"}, "config.ablate.reference = 'theirs' is none of the variants 'ours', 'late, flat'."),
    ({"variants": ({"name": "a b"}, {"name": "a-b"})}, "config.ablate.variants = ['a b', 'a-b']: two names give one"),
    ({"variants": ({"name": "+"},)}, "config.ablate.variants = ['+']: name one or more, with letters or digits."),
    ({"settings": ()}, "config.ablate.settings = []: name one or more"),
    ({"seeds": (1, 1)}, "config.ablate.seeds = (1, 1): give one or more, each once."),
    ({"search": ()}, "config.ablate.search = (): give one or more, each once."),
    ({"split": "tets"}, "config.ablate.split = 'tets': use one of train, validation, test."),
    ({"workers": 0}, "config.ablate.workers = 0: it must be at least 1."),
    ({"variants": ({"name": "ours", "view": "half"},)}, "view = 'half' is none; use one of everything, semantic"),
    ({"sedes": (0,)}, "config.ablate.sedes is not a field; did you mean 'seeds'?"),
    (
      {"variants": ({"name": "ours", "fields": {"model": {"fusion": {"window": ()}}}},)},
      "config.ablate.variants['ours']: config.model.fusion.window is not a field of the configuration",
    ),
    ({"search": ({"optim": {"lr": {"low": 1}}},)}, "config.optim.lr = {'low': 1} is of type dict; float is needed."),
  ],
)
def test_what_can_not_be_is_refused(plan, fields, message):
  with pytest.raises(ConfigError) as error:
    made = plan(**fields)
    made.experiment(made.cells[0], Console(quiet=True))
  assert message in str(error.value)


def test_without_the_section_there_is_nothing_to_ablate(make):
  with pytest.raises(ConfigError, match=r"config\.ablate is missing: job ablate needs variants, see configs/ablations"):
    Plan(make(feature_sets.get_config("runlocal")))


def test_a_variant_that_is_impossible_on_a_setting_is_told_with_both_names(make):
  config = feature_sets.get_config("conjunction_in_place,runlocal")
  odd = {"name": "odd", "fields": {"data": {"options": {"grid": (3, 3)}}}}
  with config.unlocked():
    config.ablate = {"variants": VARIANTS, "reference": "ours", "settings": ({"name": "config"}, odd)}
  made = Plan(make(config))
  with pytest.raises(ConfigError, match=r"^The variant 'ours' on 'odd': fusion\.merge_before = \(2,\): the 3 x 3 grid"):
    made.experiment(next(cell for cell in made.cells if cell.setting == "odd"), Console(quiet=True))


def test_the_defaults_are_one_setting_three_seeds_and_no_search():
  config = parse(AblateConfig, {"variants": VARIANTS, "reference": "ours"})
  assert (config.settings, config.seeds, config.search) == ((Setting("config"),), (0, 1, 2), ({},))
  assert config.variants[0] == Variant("ours")
