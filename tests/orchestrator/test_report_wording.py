import pytest

from orchestrator.report.svg import Scale, apart, tag
from orchestrator.report.wording import difference, duration, interval, metric_value, period, short_names, space


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("val/miou", 0.6134, "61.3"),
        ("train/loss", 0.61344, "0.6134"),
        ("val/iou/car", None, "–"),
        ("val/miou", float("nan"), "–"),
    ],
)
def test_metrics_are_written_in_their_unit(metric, value, said):
    assert metric_value(metric, value) == said


@pytest.mark.parametrize(("value", "said"), [(0.042, "+4.2"), (-0.042, "−4.2"), (-0.0001, "±0.0")])
def test_a_difference_has_its_sign(value, said):
    assert difference("val/miou", value) == said


@pytest.mark.parametrize(
    ("low", "said"), [(-0.042, "−4.2"), (-0.0003, "−0.03"), (0.0003, "+0.03"), (-1e-9, "−0.00"), (0.0, "0.0")]
)
def test_an_end_that_rounds_to_zero_says_on_which_side_of_it_it_lies(low, said):
    assert interval("val/miou", (low, 0.0123)) == f"{said} to +1.2"


def test_short_names_are_as_short_as_they_stay_distinct():
    names = short_names(["method.name", "method.mix.at", "optim.lr", "student.lr", "train.steps"])

    assert list(names.values()) == ["method", "at", "optim.lr", "student.lr", "steps"]


@pytest.mark.parametrize(
    ("distribution", "said"),
    [
        ({"choice": ["image", True, None]}, "image or true or null"),
        ({"when": {}, "quantized": [0.1, 0.9, 0.2]}, "0.1 to 0.9, steps of 0.2"),
        ({"int": [0, 3], "when": {"a.b": ["x", "y"]}}, "0 to 3, integers, if a.b is x or y"),
    ],
)
def test_a_space_is_put_in_words(distribution, said):
    assert space(distribution) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(12.4, "12 s"), (95, "1 min 35 s"), (754, "12 min"), (8040, "2 h 14 min"), (180000, "2 days 2 h")],
)
def test_durations_are_read_at_a_glance(seconds, said):
    assert duration(seconds) == said


def test_a_period_names_the_day_once():
    assert period("2026-03-04T09:05:00+00:00", "2026-03-04T10:00:00+00:00") == "4 Mar 2026, 09:05 – 10:00 UTC"


def test_ticks_are_round():
    assert Scale(0.113, 0.487, 0, 100).ticks(4) == pytest.approx([0.2, 0.3, 0.4])
    assert Scale(0.001, 0.1, 0, 100, log=True).ticks() == pytest.approx([0.001, 0.01, 0.1])


def test_labels_are_moved_apart_and_stay_inside():
    moved = apart([98, 97, 99], 10, 0, 100)

    assert sorted(moved) == [80, 90, 100]
    assert moved[1] < moved[0] < moved[2]


def test_an_element_escapes_what_it_holds():
    assert (
        tag("text", "<b>", title='"x"', stroke_width=1.50)
        == '<text title="&#34;x&#34;" stroke-width="1.5">&lt;b&gt;</text>'
    )
