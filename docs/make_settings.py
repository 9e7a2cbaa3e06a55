"""Writes docs/settings.md, the reference of every setting, from the settings' own dataclasses and from conf/.

    python docs/make_settings.py

``tests/unit/test_docs.py`` fails when the committed page is another one than this writes.
"""

import dataclasses
import sys
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from omegaconf import DictConfig, OmegaConf  # noqa: E402

from distributed_cls.config import Config  # noqa: E402
from distributed_cls.config.registry import models  # noqa: E402
from distributed_cls.config.section import choices_of, shown  # noqa: E402
from launch import schema  # noqa: E402
from launch.composition import compose, initialized  # noqa: E402

PAGE = Path(__file__).with_name("settings.md")

_HEAD = """# Settings

`python docs/make_settings.py` writes this page from the code. In the terminal, `python -m launch --help` shows the same
settings, `--help train` one section, and `data=folder --help data` the defaults of that choice. `--cfg job` prints the
whole configuration of a command without running it.

A setting is given as `section.name=value`. A list is written `[1,2]`, a mapping `{key:value}`, nothing `null`. A shell
needs quotes around brackets and braces: `'data.split=[0.8,0.1,0.1]'`.

The column "default" has the value that runs when nothing is chosen. Where a choice such as `data=folder` or
`train=finetune` brings other values, the table below the section lists them. A value on the command line wins over
both.
"""

_ABOUT = {
    "data": "Where the images come from and how they are prepared. [preparation.md](preparation.md) has the rest.",
    "train": "How the model is trained. [training.md](training.md) and [recipes.md](recipes.md) have the rest.",
    "cluster": "Which Spark cluster runs the job, and the limit of every wait on it. "
    "[clusters.md](clusters.md) has the rest.",
    "job": "What to do. [operations.md](operations.md) tells which job may be started again.",
    "evaluate": "What is fitted on the validation split after training. "
    "[report.md](report.md#confidence) has the rest.",
    "suspects": "`job=suspects`. [report.md](report.md#suspected-labels) has the rest.",
    "tracking": "TensorBoard and MLflow. [operations.md](operations.md#tracking) has the rest.",
    "sweep": "Many runs in one command (`-m`). [training.md](training.md#sweeps) has the rest.",
    "predict": "`job=predict` and `job=stream`. [serving.md](serving.md) has the rest.",
    "stream": "`job=stream`.",
    "serve": "`job=serve`. [serving.md](serving.md#how-it-behaves) tells how the limits work together.",
}

_TAIL = """## Folders, sweeps and logs

Hydra, which reads the command line, has settings of its own. These are the useful ones.

| setting | default | meaning |
|---|---|---|
| `resume` | | go on with the run, or with `-m` the sweep, in this folder, under the settings that it was started with |
| `hydra.run.dir` | `runs/<date>/<time>-…` | folder of the run |
| `hydra.sweep.dir` | `runs/<date>/<time>-sweep` | folder of a sweep (`-m`) |
| `hydra.verbose` | `false` | `true`: debug lines in the terminal and in `launch.log` |
| `hydra.sweeper.n_trials` | `12` | `experiment=search`: number of trials |
| `hydra.sweeper.sampler.seed` | `0` | `experiment=search`: seed of the sampler |

## Rules across settings

- Every replica (a worker, or each of its GPUs) computes one lane at least: `train.lanes`, or the largest divisor of
  `train.batch_size` up to 64, is no less than `cluster.workers`, times `cluster.gpus_per_worker` where there are GPUs.
- `data.image_size` is at least 32 with `model=resnet` and `model=backbone` (71 with Xception, 75 with InceptionV3 and
  InceptionResNetV2), and 8 with the others. With `model=cnn` each of `model.filters`
  halves the image.
- `train.mixup` and `train.cutmix` need two images of each lane in a batch: `train.lanes` is at most half of
  `train.batch_size`, which it is by default.
- `data.path` is required by every source but `digits` and `fashion_mnist`, and by `job=predict` and `job=stream`.
- `model_dir` is required by `job=evaluate`, `predict`, `stream` and `serve`; `output` by `predict` and `stream`.
- `train.fine_tune_epochs` needs a frozen backbone: `model.weights`, and not `model.freeze_backbone=false`.
- `model.feature_cache=on` needs a frozen backbone, no `train.mixup` or `train.cutmix`, and with any other augmentation
  `model.feature_views`. `job=suspects` refuses it.
- `model.freeze_backbone=true` needs `model.weights`. `model.weights=imagenet` is for `model=resnet` and
  `model=backbone`.
- `cluster.spark` is set as one mapping: `'+cluster.spark={spark.executor.memory:4g}'`.
"""


def page() -> str:
    """The whole page."""
    schema.register()
    composed, _ = compose([])
    return "\n".join([_HEAD, *_choices(), *_sections(composed), _TAIL])


def _choices() -> Iterator[str]:
    with initialized() as loader:
        options = {name: sorted(loader.get_group_options(name)) for name in (*_ABOUT, "model", "experiment")}
    yield "## Choices\n"
    yield "| choose with | one of |\n|---|---|"
    for group in ("data", "model", "train", "cluster", "job", "experiment"):
        yield f"| `{group}=` | {', '.join(f'`{name}`' for name in options[group])} |"
    yield ""


def _sections(composed: DictConfig) -> Iterator[str]:
    alone = []
    for section in dataclasses.fields(Config):
        if section.name == "model":
            yield "## model\n"
            yield "Each model has settings of its own. [plugins.md](plugins.md) tells how to add a model.\n"
            for name, kind in models().items():
                yield f"### model={name}\n"
                yield _table([_row("model", item, None) for item in dataclasses.fields(kind) if item.name != "name"])
        elif dataclasses.is_dataclass(section.type):
            yield f"## {section.name}\n"
            yield f"{_ABOUT[section.name]}\n"
            values = composed[section.name]
            yield _table([_row(section.name, item, values) for item in dataclasses.fields(section.type)])
            yield from _changes(section.name, values)
        else:
            alone.append(_row("", section, composed))
    yield "## Outside of the sections\n"
    yield _table(alone)


def _table(rows: list[str]) -> str:
    return "\n".join(["| setting | default | values | meaning |", "|---|---|---|---|", *rows, ""])


def _row(section: str, item: Any, composed: DictConfig | None) -> str:
    factory: Any = item.default_factory
    value = factory() if item.default is dataclasses.MISSING else item.default
    if composed is not None:
        value = _plain(composed)[item.name]
    name = f"{section}.{item.name}" if section else item.name
    return f"| `{name}` | {_code(value)} | {_values(item)} | {item.metadata['doc'].replace('|', chr(92) + '|')} |"


def _plain(composed: DictConfig) -> dict[str, Any]:
    values: Any = OmegaConf.to_container(composed)
    return dict(values)


def _code(value: Any) -> str:
    return f"`{shown(value)}`" if shown(value) else "empty"


def _values(item: Any) -> str:
    """What a setting takes: its kind and its limits."""
    choices = choices_of(item.metadata)
    if len(choices) > 1:
        return ", ".join(f"`{choice}`" for choice in choices)
    signs = {"at_least": "≥", "above": ">", "at_most": "≤", "below": "<"}
    limits = [f"{sign} {item.metadata[name]}" for name, sign in signs.items() if name in item.metadata]
    kinds = typing.get_args(item.type) if isinstance(item.type, types.UnionType) else (item.type,)
    kind = " or ".join(_kind(one) for one in kinds if one is not types.NoneType)
    words = f"{kind} {', '.join(limits)}".rstrip()
    return f"{words} or `null`" if types.NoneType in kinds else words


def _kind(kind: Any) -> str:
    if typing.get_origin(kind) is list:
        return "list of " + {int: "whole numbers", float: "numbers"}[typing.get_args(kind)[0]]
    return {int: "whole number", float: "number", bool: "`true` or `false`", str: "text", dict: "mapping"}[
        typing.get_origin(kind) or kind
    ]


def _changes(group: str, base: DictConfig) -> Iterator[str]:
    """What each choice of a group sets otherwise than the one that runs by itself."""
    if group == "job":
        return
    with initialized() as loader:
        names = sorted(loader.get_group_options(group))
    rows = []
    for name in names:
        values = _plain(compose([f"{group}={name}"])[0][group])
        other = {key: value for key, value in values.items() if value != _plain(base)[key] and key != "name"}
        if other:
            rows.append(f"| `{group}={name}` | {', '.join(_assigned(group, key, other[key]) for key in other)} |")
    if rows:
        yield "\n".join(["| choice | sets |", "|---|---|", *rows, ""])


def _assigned(group: str, key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"`{inner}={shown(part)}`" for inner, part in value.items())
    if value == "":
        return f"`{group}.{key}` has to be given"
    return f"`{group}.{key}={shown(value)}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
