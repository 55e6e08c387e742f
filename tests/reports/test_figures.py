import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from gasmcast.core.errors import DataError
from gasmcast.metrics.classification import ClassRow
from gasmcast.reports import figures, theme


def texts(figure):
  root = ElementTree.fromstring(theme.svg(figure))
  return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def test_order_puts_confused_classes_side_by_side():
  confusion = 10 * np.eye(6)
  confusion[0, 4] = confusion[4, 0] = confusion[1, 5] = 8  # 0 with 4, 1 with 5; 2 and 3 with nobody
  order = list(figures.confusion_order(confusion))
  assert sorted(order) == list(range(6))
  assert abs(order.index(0) - order.index(4)) == 1
  assert abs(order.index(1) - order.index(5)) == 1


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_few_classes_without_examples_have_an_order(classes):
  assert sorted(figures.confusion_order(np.zeros((classes, classes)))) == list(range(classes))


def test_small_confusion_matrix_writes_percentages():
  written = texts(figures.confusion_matrix(np.array([[3.0, 1.0], [0.0, 5.0]]), ("open", "close")))
  assert {"75", "25", "100"} <= set(written)
  assert "open  1" in written


def test_large_confusion_matrix_lists_the_most_frequent_mistakes():
  confusion = 10 * np.eye(174)
  confusion[7, 9], confusion[20, 3] = 30, 10
  written = texts(figures.confusion_matrix(confusion, [f"class {i}" for i in range(174)]))
  first = written.index("class 7")
  assert written[first + 1] == "class 9"
  assert written[first + 2] == "30 (75 %)"
  assert written.index("class 20") > first
  assert "10 (50 %)" in written
  assert "class 8" not in written


def test_confusion_matrix_needs_a_name_for_each_class():
  with pytest.raises(DataError, match=r"1 class names for a confusion matrix of shape \(2, 2\)"):
    figures.confusion_matrix(np.eye(2), ("open",))


def rows(count):
  return [ClassRow(i, f"class {i}", 10, i / count, None, None, None, None, 0) for i in range(count)]


def test_bars_name_every_class_best_first():
  written = texts(figures.per_class_bars(rows(5)))
  named = [text for text in written if text.startswith("class")]
  assert named == [f"class {i}  (10)" for i in (4, 3, 2, 1, 0)]
  assert "Recall by class (examples); mean 40.0 % (dashed)" in written


def test_bars_of_many_classes_name_the_best_and_the_worst():
  written = texts(figures.per_class_bars(rows(174), shown=3))
  named = [text for text in written if text.startswith("class ")]
  assert named == [f"class {i}  (10)" for i in (173, 172, 171, 2, 1, 0)]


def test_bars_leave_out_classes_without_examples():
  absent = ClassRow(1, "absent", 0, None, None, None, None, None, 0)
  assert not any("absent" in text for text in texts(figures.per_class_bars([*rows(1), absent])))


def lines(figure, panel=0):
  return {line.get_label(): line.get_xydata().tolist() for line in figure.axes[panel].get_lines()}


def test_curves_by_split_in_order_of_steps():
  records = [
    {"step": 0, "split": "train", "loss": 3.0, "top1": 0.25},
    {"step": 10, "split": "validation", "loss": 2.5},
    {"step": 20, "split": "train", "loss": 9.0},
    {"step": 30, "split": "train", "loss": float("nan")},
    {"step": 10, "split": "train", "loss": 2.0},
    {"step": 20, "split": "train", "loss": 1.0},  # the resumed run logs step 20 again
    {"event": "resumed"},
  ]
  figure = figures.training_curves(records)
  assert lines(figure) == {"train": [[0, 3], [10, 2], [20, 1]], "validation": [[10, 2.5]]}
  assert lines(figure, 1) == {"train": [[0, 25]]}  # percent
  assert [axes.get_title(loc="left") for axes in figure.axes] == ["Loss", "Top-1 accuracy"]


def test_long_curves_are_averaged_inside_their_extremes():
  records = [{"step": i, "split": "train", "loss": i % 2} for i in range(2 * figures.POINTS)]
  figure = figures.training_curves(records)
  curve = np.array(lines(figure)["train"])
  np.testing.assert_array_equal(curve[:, 1], 0.5)
  np.testing.assert_array_equal(curve[:2, 0], [0.5, 2.5])
  extremes = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
  assert (extremes.min(), extremes.max()) == (0, 1)


def test_no_records_give_an_empty_figure():
  assert texts(figures.training_curves([])) == []


def test_reliability_states_the_calibration_error():
  bins = {name: np.zeros(15) for name in ("count", "confidence", "correct")}
  bins["count"][14], bins["confidence"][14], bins["correct"][14] = 10, 9.6, 8
  assert "Expected calibration error 16.0 points" in texts(figures.reliability_diagram(bins))


def test_depth_states_accuracies_and_layers():
  written = texts(figures.depth_accuracy([1, 2, 4], 8))
  assert {"before fusion", "after layer 1", "after layer 2", "12.5", "25.0", "50.0"} <= set(written)
