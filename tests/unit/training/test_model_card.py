"""The model card for what an export may and may not know."""

import math

import pytest

from distributed_cls.training.model_card import Card, render

CREATED = "2026-01-01T00:00:00+00:00"


def test_a_card_does_with_little() -> None:
    text = render(Card("cnn"), ["a"], 32, CREATED)
    assert text.startswith("# cnn: an image classifier of 1 class\n\nTrained on the data set `unknown`; exported 2026")
    assert "## Evaluation\n\nNot measured.\n\n## Data" in text and "32 × 32 pixels" in text
    assert "\n\n\n" not in text and text.endswith("```\n")


@pytest.mark.parametrize(("classes", "end"), [(50, "49."), (51, "49 and 1 more (labels.json)."), (1050, "1,000 more")])
def test_many_classes_are_cut_and_counted(classes: int, end: str) -> None:
    assert end in render(Card("cnn"), [str(number) for number in range(classes)], 32, CREATED)


def test_names_are_text_and_no_part_of_the_template() -> None:
    text = render(Card("{{ 7 * 7 }}", "<b> & {% if %}"), ["Citroën", "{# no comment #}"], 32, CREATED)
    assert "# {{ 7 * 7 }}:" in text and "`<b> & {% if %}`" in text and "Citroën, {# no comment #}." in text


def test_a_loss_that_is_not_finite_is_none_where_json_must_hold_it() -> None:
    card = Card("cnn", metrics={"test": {"loss": math.inf, "examples": 3}})
    assert card.finite_metrics == {"test": {"loss": None, "examples": 3}}
    assert "| test | inf | 3 |" in render(card, ["a"], 32, CREATED)
