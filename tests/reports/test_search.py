"""The table, the sentences and the figures of a search."""

import csv
import io

import pytest

from gasmcast.reports import search as report
from gasmcast.reports.search import Trial
from gasmcast.reports.theme import LIGHT, raster
from tests.reports.test_figures import texts

TRIALS = [
  Trial(
    0, "complete", "config", {"optim.lr": 1e-3, "model.name": "a"}, 0.5, 20, 30, {10: 0.4, 20: 0.5, 30: 0.45}, 60.0
  ),
  Trial(1, "pruned", "known", {"optim.lr": 1e-4, "model.name": "b"}, 0.9, 10, 10, {10: 0.9}, 20.0),
  Trial(2, "failed", "sampler", {"optim.lr": 0.1, "model.name": "a"}, None, None, 0, {}, 5.0, "the loss | is nan."),
  Trial(3, "complete", "sampler", {"optim.lr": 5e-3, "model.name": "b"}, 0.75, 30, 30, {10: 0.5, 30: 0.75}, 7200.0),
]


def test_complete_trials_come_first_and_the_best_is_one_of_them():
  assert [trial.number for trial in report.ranked(TRIALS, "max")] == [3, 0, 1, 2]
  assert [trial.number for trial in report.ranked(TRIALS, "min")] == [0, 3, 1, 2]
  assert report.best(TRIALS, "max").number == 3 and report.best(TRIALS, "min").number == 0
  assert report.best(TRIALS[1:3], "max") is None


def test_the_table_names_parameters_briefly_where_that_is_clear():
  head, lines = report.table(TRIALS, "top1", "max")
  assert head == ("trial", "top1", "state", "at step", "steps", "duration", "name", "lr")
  assert lines[0] == ("3", "0.7500", "complete", "30", "30", "2.0 hours", "b", "0.005")
  assert lines[1][0] == "0 (config)" and lines[2][0] == "1 (known)"
  assert lines[3] == ("2", "", "failed", "", "0", "5.0 seconds", "a", "0.1")
  both = [TRIALS[0]._replace(values={"a.lr": 1.0, "b.lr": 2.0})]
  assert report.table(both, "top1", "max")[0][-2:] == ("a.lr", "b.lr")


def test_the_csv_holds_every_digit_by_number():
  trials = [TRIALS[0]._replace(values={"optim.lr": 0.0023170487362715}), *TRIALS[1:]]
  lines = list(csv.DictReader(io.StringIO(report.to_csv(trials, "top1"))))
  assert [line["trial"] for line in lines] == ["0", "1", "2", "3"]
  assert lines[0]["optim.lr"] == "0.0023170487362715" and lines[0]["model.name"] == ""
  assert lines[2] == {
    **{"trial": "2", "top1": "", "state": "failed", "origin": "sampler", "best_step": "", "steps": "0"},
    **{"seconds": "5.0", "model.name": "a", "optim.lr": "0.1", "reason": "the loss | is nan."},
  }


def test_sentences_compare_the_best_with_the_configuration():
  said = report.sentences(TRIALS, "top1", "max", {"optim.lr": 0.8, "model.name": 0.2})
  assert said[:4] == [
    "4 trials: 2 complete, 1 ended early, 1 failed.",
    "Best top1: 0.7500 in trial 3, at step 30 of 30.",
    "The configuration as it was (trial 0): 0.5000.",
    "Importance (PED-ANOVA, over complete trials): optim.lr 80 %, model.name 20 %.",
  ]
  assert "with other seeds" in said[4]
  assert report.sentences(TRIALS, "loss", "min", {})[2].startswith(
    "That is the configuration as it was: no other trial"
  )
  assert report.sentences(TRIALS[1:3], "top1", "max", {}) == [
    "2 trials: 1 ended early, 1 failed.",
    "No trial is complete, so there is no best one.",
  ]
  waiting = TRIALS[3]._replace(state="waiting", value=None)
  assert report.sentences([TRIALS[0], waiting], "top1", "max", {})[0] == "2 trials: 1 complete, 1 not begun."


def test_the_page_holds_table_commands_failures_and_figures():
  page = report.markdown(TRIALS, "top1", "max", {}, {"Train the best again": "python x"}, {"History": "figures/h.png"})
  assert "Train the best again:\n\n    python x\n" in page and "![History](figures/h.png)" in page
  assert "| 3 | 0.7500 | complete | 30 | 30 | 2.0 hours | b | 0.005 |" in page
  assert "- Trial 2 failed: the loss | is nan." in page


def test_history_shows_every_trial_and_the_best_so_far():
  figure = report.history(TRIALS, "top1", "max")
  (axes,) = figure.axes
  lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
  assert lines["best so far"] == [0.5, 0.75, 0.75] and lines["ended early"] == [0.9] and "failed" in lines
  assert {"trial", "top1", "best so far", "complete", "ended early", "failed"} <= set(texts(figure))


def test_a_panel_for_each_parameter_and_choices_side_by_side():
  figure = report.slices([trial for trial in TRIALS if trial.value is not None], "top1", ["optim.lr"])
  names, rates = figure.axes[:2]
  assert [tick.get_text() for tick in names.get_xticklabels()] == ["a", "b"]
  assert "0.001" in texts(figure) and not any("$" in text for text in texts(figure))
  assert rates.get_xscale() == "log" and rates.get_title(loc="left") == "optim.lr"
  assert sorted(x for line in rates.lines for x in line.get_xdata()) == [1e-4, 1e-3, 5e-3]


def test_curves_and_importance_are_drawn():
  figure = report.learning_curves(TRIALS, "top1", "max")
  assert "best (trial 3)" in texts(figure) and "the configuration as it was (trial 0)" in texts(figure)
  assert {"optim.lr", "model.name"} <= set(texts(report.importance({"optim.lr": 0.8, "model.name": 0.2})))


@pytest.mark.parametrize("parameters", [1, 3, 4, 7])
def test_any_number_of_parameters_is_drawn(parameters):
  trials = [
    Trial(i, "complete", "sampler", {f"a.b{k}": i * k for k in range(parameters)}, 0.1, 1, 1, {}, 1.0) for i in (0, 1)
  ]
  assert raster(report.slices(trials, "top1", []), LIGHT, "png", 40)[:4] == b"\x89PNG"
