"""Where values lie on an axis: plain arithmetic."""

import math

import pytest

from distributed_cls.evaluation import axes


def inner(share: float) -> float:
    """A place on the axis, whose outermost values have a margin of 4%."""
    return 0.04 + 0.92 * share


def test_two_decades_make_an_axis_logarithmic_and_less_do_not() -> None:
    log = axes.of_setting(["1e-4", "1e-3", "1e-2", None])
    assert (
        log is not None
        and log.log
        and log.places
        == [
            *(pytest.approx(inner(share)) for share in (0, 0.5, 1)),
            None,
        ]
    )
    assert [text for _, text in log.ticks] == ["0.0001", "0.001", "0.01"]
    linear = axes.of_setting(["1", "50", "99"])
    assert linear is not None and not linear.log and linear.places[1] == pytest.approx(inner(0.5))
    below = axes.of_setting(["-1", "0", "1000"])
    assert below is not None and not below.log  # which has no logarithm


def test_what_is_no_finite_number_makes_an_axis_of_texts() -> None:
    found = axes.of_setting(["1", "nan", "null", "1"])
    assert found is not None and found.categories == 3
    assert found.places == pytest.approx([1 / 6, 3 / 6, 5 / 6, 1 / 6])
    huge = axes.of_setting(["1e400", "1"])
    assert huge is not None and huge.categories == 2
    assert axes.of_setting([f"name {index}" for index in range(axes.MOST_CATEGORIES + 1)]) is None
    assert axes.of_setting([None, None]) is None


@pytest.mark.parametrize("values", [["3"], ["3", "3.0"], ["1", "2"], ["1e-300", "1e149"], [str(n) for n in range(999)]])
def test_few_ticks_within_the_axis_whatever_the_numbers(values: list[str]) -> None:
    found = axes.of_setting(values)
    assert found is not None and 1 <= len(found.ticks) <= 7
    places = [place for place, _ in found.ticks]
    assert places == sorted(places) and all(0 <= place <= 1 for place in places)
    assert len({text for _, text in found.ticks}) == len(found.ticks)
    assert all(place is not None and 0 <= place <= 1 for place in found.places)


def test_accuracies_get_the_digits_that_tell_ticks_apart() -> None:
    close = axes.of_shares([0.9812, 0.9836, None, math.nan])
    texts = [text for _, text in close.ticks]
    assert close.places[2:] == [None, None] and len(set(texts)) == len(texts) >= 2
    for place, text in close.ticks:  # a tick says where it lies
        share = (float(text.rstrip("%")) / 100 - 0.9812) / (0.9836 - 0.9812)
        assert place == pytest.approx(inner(share))
    whole = axes.of_shares([0.0, 1.0])
    assert [text for _, text in whole.ticks] == ["0%", "20%", "40%", "60%", "80%", "100%"]
    alike = axes.of_shares([1.0, 1.0])
    assert alike.places == [pytest.approx(0.5)] * 2 and all(float(text.rstrip("%")) <= 100 for _, text in alike.ticks)


@pytest.mark.parametrize("most", [1, 2, 3, 9, 30, 1000])
def test_epochs_begin_with_the_first(most: int) -> None:
    found = axes.of_epochs(most)
    assert len(found.places) == most and found.ticks[0] == (found.places[0], "1")
    for place, text in found.ticks:
        assert place == pytest.approx(found.places[int(text.replace(",", "")) - 1])
