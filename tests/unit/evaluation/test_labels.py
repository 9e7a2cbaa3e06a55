"""Words and numbers for people."""

import pytest

from distributed_cls.evaluation import labels


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.419, "0.42 s"),
        (6.64, "6.6 s"),
        (9.97, "10 s"),
        (42.4, "42 s"),
        (59.7, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.8, "1 h 00 min"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert labels.duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.12345678, "0.1235"),
        (12, "12"),
        (12000.0, "12,000"),
        (2534.6, "2,535"),
        (1e-5, "1e-05"),
        (float("nan"), "not finite"),
        (None, "not finite"),
    ],
)
def test_numbers(value: float | None, said: str) -> None:
    assert labels.number(value) == said


def test_percentages_have_as_many_decimals_as_their_number_of_images_bears() -> None:
    assert (labels.percent(0.99259, 270), labels.percent(0.99259, 1000)) == ("99.3%", "99.26%")
    assert (labels.percent(0.99999, 270), labels.percent(0.99999, 10**6)) == ("99.9%", "99.99%")
    assert (labels.percent(1.0), labels.percent(0.0)) == ("100.0%", "0.0%")
    assert labels.interval((0.9734, 0.998)) == "97.3% to 99.8%"


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 79])
def test_shortened_names_keep_their_ends_and_the_limit(limit: int) -> None:
    name = "abcdefgh" * 10
    short = labels.shorten(name, limit)
    head, tail = short.split("…")
    assert len(short) == limit and name.startswith(head) and name.endswith(tail)
    assert labels.shorten(name, 80) == name


def test_names_are_numbered_together_or_not_at_all() -> None:
    assert labels.short_names(["a", "bb"], 2) == ["a", "bb"]
    assert labels.short_names(["a", "bbbbbbbbbb"], 7) == ["0 a", "1 bb…bb"]


def test_what_cannot_be_shown_is_replaced() -> None:
    assert labels.readable("a\x00b\u202ec\udcffd\ne") == "a\ufffdb\ufffdc\ufffdd\ufffde"
    assert labels.readable("naïve 日本語 🐱 <b>") == "naïve 日本語 🐱 <b>"


def test_plural() -> None:
    assert [labels.plural(count, "class", "classes") for count in (1, 2)] == ["1 class", "2 classes"]
    assert labels.plural(12000, "image") == "12,000 images"
