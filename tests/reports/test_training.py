"""The page of a training: findings in words, figures, and text that is text wherever it comes from."""

import re

import pytest

from gasmcast.metrics.stability import Overfitting, Spike, Stability
from gasmcast.reports.training import Training, write
from gasmcast.reports.training_figures import charts, norms, resources
from gasmcast.reports.training_findings import findings

RECORDS = [
  line
  for step in range(10, 110, 10)
  for line in (
    {
      "step": step,
      "time": 1.79e9 + step,
      "split": "train",
      "loss": 2 - step / 100,
      "lr": 1e-3,
      "clips_per_second": 64.0,
      "time/input_starved": 0.25,
      "memory/rss_mb": 1500.0,
      **{f"{kind}/{group}": 0.5 for kind in ("grad_norm", "update_ratio") for group in ("fusion/bcast_1", "head")},
    },
    {"step": step, "time": 1.79e9 + step, "split": "validation", "loss": 2.0, "top1": step / 200},
  )
]


def words(page):
  """The text of a page."""
  return " ".join(re.sub(r"<[^>]+>", " ", page.read_text("utf-8").split("</style>")[-1]).split())


def by_name(stability, **options):
  return {row.name: (row.state, row.words) for row in findings(stability, "top1", **options)}


def test_a_run_that_goes_on_says_how_far_it_is(tmp_path):
  page = write(tmp_path, Training(RECORDS, "base", steps=400, held=True, command="python main.py"))
  said = words(page)
  assert "It is running, or was killed. The last line was written at 2026-09-21 14:15:00 UTC." in said
  assert "100 of 400 steps are logged" in said and "Best top1 0.500 at step 100" in said
  assert "Since the first line 1.5 min" in said
  assert "64 clips/s share of the peak unknown" in said and "25.0 % at most lost to it" in said
  assert sorted(file.name for file in tmp_path.iterdir()) == [
    "index.html",
    "norms.svg",
    "resources.svg",
    "training.svg",
  ]


@pytest.mark.parametrize(
  ("fields", "said"),
  [
    ({"status": "finished"}, "All steps are done."),
    ({"status": "patience"}, "It ended early: validations brought no gain any more."),
    ({"status": "terminated"}, "It was told to stop; the same command resumes it."),
    ({}, "It is not running, and is not done: the same command resumes it."),
  ],
)
def test_the_page_says_how_the_run_stands(tmp_path, fields, said):
  assert said in words(write(tmp_path, Training(RECORDS, **fields)))


def test_a_run_that_logged_nothing_has_a_page(tmp_path):
  said = words(write(tmp_path, Training([])))
  assert "Nothing was logged yet." in said and "Nothing was validated yet." in said
  assert [file.name for file in tmp_path.iterdir()] == ["index.html"]


def test_a_calm_run_is_fine_in_every_row():
  calm = Stability(last_step=1000, best=(900, 0.75), gap=("top1", 0.9, 0.7))
  rows = by_name(calm, heads=())
  assert [name for name, (state, _) in rows.items() if state not in ("passed", "")] == []
  assert rows["Best step"] == ("", "top1 0.750 at step 900 of 1,000 so far.")
  assert "top-1 90.0 % in training, 70.0 % in validation" in rows["Over-fitting"][1]


def test_every_finding_has_its_numbers():
  stability = Stability(
    last_step=5000,
    spikes=(Spike(100, 150, 9.0, 2.0), Spike(300, 300, 4.0, 1.0)),
    diverged=4000,
    best=(1000, 0.5),
    plateau=(8, 1000),
    gap=("loss", 0.5, 2.0),
    overfitting=Overfitting(1000, 1.0, 2.0, 1.5, 0.5),
    skipped=3,
    non_finite=(2001, 2002),
    no_gradient=("head/bias",),
    failed_clips=1234,
    recompilations=2,
  )
  rows = by_name(stability, heads=("Head 3 of fusion/bcast_1 is uniform.",))
  assert rows["Divergence"][0] == "failed" and "From step 4,000 on" in rows["Divergence"][1]
  assert rows["Loss spikes"] == (
    "warned",
    "2: step 100 to 150: 9 where 2 was usual; step 300: 4 where 1 was usual.",
  )
  assert rows["Plateau"][1].startswith("8 validations without a gain in top1 since step 1,000.")
  assert "rose from 1 at step 1,000 to 2 while the training loss fell from 1.50 to 0.500" in rows["Over-fitting"][1]
  assert rows["Skipped steps"][1] == (
    "3 updates were not applied. Loss or gradient was not finite at step 2,001, 2,002."
  )
  assert "1 had a gradient of exactly 0 at every logged step: head/bias." in rows["Parameters without a gradient"][1]
  assert rows["Attention heads"] == ("warned", "Head 3 of fusion/bcast_1 is uniform.")
  assert "1,234 clips" in rows["Data errors"][1] and "2 times more" in rows["Compilations"][1]


def test_long_lists_are_cut():
  many = Stability(no_gradient=tuple(f"layer_{i}/kernel" for i in range(25)), non_finite=tuple(range(30)))
  rows = by_name(many)
  assert "layer_19/kernel, and 5 more" in rows["Parameters without a gradient"][1]
  assert rows["Skipped steps"][1].endswith("18, 19, ....")


def test_heads_nobody_looked_at_are_no_dead_heads():
  assert by_name(Stability())["Attention heads"] == ("", "Not judged: job evaluate looks at them.")


def legend(figure):
  return [text.get_text() for text in figure.legends[0].get_texts()]


def test_norms_have_one_line_a_module():
  figure = norms(RECORDS)
  assert [axes.get_title(loc="left") for axes in figure.axes] == [
    "Gradient norm before clipping, by module",
    "Norm of the update by that of the parameters",
  ]
  assert legend(figure) == ["fusion/bcast_1", "head"]
  assert {axes.get_yscale() for axes in figure.axes} == {"log"}


def test_many_modules_are_joined_by_their_first_level():
  line = {f"grad_norm/motion/layer{i}": 3.0 for i in range(9)} | {f"grad_norm/fusion/{i}": 2.0 for i in range(4)}
  figure = norms([{"step": 1, "split": "train", **line}])
  assert legend(figure) == ["fusion", "motion"]
  values = {line.get_label(): line.get_ydata()[0] for line in figure.axes[0].lines if len(line.get_ydata())}
  assert (values["fusion"], values["motion"]) == (4.0, 9.0)  # the roots of 4 * 2^2 and 9 * 3^2


def test_memory_is_in_gigabytes_and_waiting_in_percent():
  lines = {axes.get_title(loc="left"): axes.lines[0].get_ydata()[0] for axes in resources(RECORDS).axes if axes.lines}
  assert lines == {"Throughput, without validation and saving": 64.0, "Input": 25.0, "Memory": 1.5}


def test_a_record_without_such_numbers_has_no_such_figure():
  assert list(charts([{"step": 1, "split": "train", "loss": 2.0}])) == ["training"] and charts([]) == {}


def test_data_errors_are_listed_and_the_list_is_cut(tmp_path):
  errors = [{"split": "train", "index": i, "reason": f"no frames in {i}.webm", "step": 3} for i in range(250)]
  said = words(write(tmp_path, Training(RECORDS, data_errors=errors)))
  assert "The first 200 of 250; all are in data_errors.jsonl." in said
  assert "no frames in 199.webm" in said and "no frames in 200.webm" not in said


HOSTILE = "<script>document.title='run'</script><img src=\"http://127.0.0.1:9/x\">{{ 7 * 7 }}"


@pytest.mark.reliability
def test_what_comes_from_outside_is_text(tmp_path, browser):
  hostile = [*RECORDS, {"step": 120, "split": "train", f"grad_norm/{HOSTILE}/x": 1.0, "loss": 1.0}]
  hostile.append({"step": 120, "split": "no_gradient", "parameters": [HOSTILE], "of": 3})
  errors = [{"split": HOSTILE, "index": 1, "reason": HOSTILE, "step": 3}]
  page = write(
    tmp_path,
    Training(hostile, HOSTILE, command=HOSTILE, environment={HOSTILE: HOSTILE}, data_errors=errors, heads=(HOSTILE,)),
  )
  document = browser(page)
  assert "<title>run</title>" not in document and "49" not in re.findall(r"<h1>(.*?)</h1>", document)[0]
  assert document.count("<script>") == 1 and '<img src="http' not in document
