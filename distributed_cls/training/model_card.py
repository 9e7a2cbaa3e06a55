"""``model_card.md``: what people should know of an exported model before they use it.

The template is text in this module, not a file beside it: executors get the modules of this package and nothing else.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jinja2

from distributed_cls.contracts.codec import Json
from distributed_cls.contracts.confidence import Confidence

Figures = Mapping[str, float]  # name → value: numbers of images, shares in [0, 1], the loss in nats per image

_MOST_CLASSES = 50

_TEMPLATE = """\
# {{ card.model }}: an image classifier of {{ classes | length }} class{{ "es" if classes | length != 1 }}

Trained on the data set `{{ card.dataset or "unknown" }}`; exported {{ created }}.

## Classes

{{ classes | listing }}.

The model reads every image as {{ size }} × {{ size }} pixels in {{ "grey" if channels == 1 else "colour" }}.
{% if card.confidence.threshold is none %}
It always predicts one of these classes, also for an image that shows none of them.
{% else %}
{% set score = "An energy score" if card.confidence.reject_by == "energy" else "A confidence" %}
{{ score }} below {{ "%.4f" | format(card.confidence.threshold) }} means "none of these":
{{ card.confidence.coverage | figure }} of the validation images reach it. The probabilities always add up
to 1 over these classes.
{% endif %}

## Evaluation

{% if figures %}
| split |{% for name in figures %} {{ name }} |{% endfor %}

| --- |{% for name in figures %} --- |{% endfor %}

{% for split, measured in card.metrics.items() if measured %}
| {{ split }} |{% for name in figures %} {{ measured[name] | figure }} |{% endfor %}

{% endfor %}
{% else %}
Not measured.
{% endif %}

## Data

- name: {{ card.dataset or "unknown" }}
- fingerprint: {{ card.fingerprint or "unknown" }}
{% for split, counts in card.counts.items() %}
- {{ split }}: {{ "{:,}".format(counts.values() | sum) }} images
{% endfor %}

## Limits

- The metrics hold for images like those of the data set; other cameras, light or crops can give worse results.
{% if card.confidence.temperature != 1 %}
- The confidence was calibrated on the validation split (temperature scaling,
  T = {{ card.confidence.temperature | figure }}): on such images it agrees with the accuracy.
{% endif %}
- The confidence is the model's own probability; it does not measure how unlike the training images an image is.
- Wrong labels and class imbalance of the data set are learned as well.

## Use

```bash
python -m launch job=serve model_dir=<this folder>
python -m launch job=predict model_dir=<this folder> data.path=<images> output=<result folder>
```

```python
import json
import pathlib

import tensorflow as tf

classify = tf.saved_model.load("saved_model").signatures["serving_default"]
probabilities = classify(image_bytes=tf.constant([pathlib.Path("photo.jpg").read_bytes()]))["probabilities"]
print(json.loads(pathlib.Path("labels.json").read_text())[int(tf.argmax(probabilities[0]))])
```

## Settings of the training run

```json
{{ config }}
```
"""


@dataclass(frozen=True)
class Card:
    """What an export says of its model, besides its classes and its input."""

    model: str
    dataset: str | None = None  # its name
    fingerprint: str | None = None
    counts: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # split → class → images
    metrics: Mapping[str, Figures] = field(default_factory=dict)  # split → figures; none where it was not evaluated
    config: Mapping[str, Json] = field(default_factory=dict)
    confidence: Confidence = field(default_factory=Confidence)

    @property
    def finite_metrics(self) -> dict[str, dict[str, float | None]]:
        """The metrics as JSON can hold them: None for what is not finite."""
        return {
            split: {name: value if math.isfinite(value) else None for name, value in figures.items()}
            for split, figures in self.metrics.items()
        }


def render(card: Card, classes: Sequence[str], image_size: int, created: str, channels: int = 3) -> str:
    """The card as Markdown. created: ISO 8601; channels: 1 or 3, of the model's input."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(listing=_listing, figure=_figure)
    return environment.from_string(_TEMPLATE).render(
        card=card,
        classes=list(classes),
        size=image_size,
        channels=channels,
        created=created,
        figures=list(dict.fromkeys(name for figures in card.metrics.values() for name in figures)),
        config=json.dumps(card.config, indent=2, ensure_ascii=False),
    )


def _listing(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:_MOST_CLASSES])
    return (
        shown if len(classes) <= _MOST_CLASSES else f"{shown} and {len(classes) - _MOST_CLASSES:,} more (labels.json)"
    )


def _figure(value: object) -> str:
    """Four decimals for a share or a loss, thousands separated for a number of images; empty where unknown."""
    if isinstance(value, jinja2.Undefined):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
