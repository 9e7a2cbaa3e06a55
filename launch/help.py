"""``python -m launch --help``: the groups, the settings with their meanings, and a few commands to begin with."""

import dataclasses
from typing import Any

from rich.markup import escape
from rich.table import Table

from distributed_cls.config import MODELS, Config
from distributed_cls.run.progress import console

_EXAMPLES = """[bold]python -m launch[/bold] trains an image classifier on a Spark cluster.

  python -m launch                                        digits, a small CNN, two workers here
  python -m launch data=folder data.path=/images model=resnet model.weights=imagenet
  python -m launch model=resnet cluster=gpu4
  python -m launch -m model=dense,cnn train.learning_rate=1e-2,1e-3
  python -m launch --cfg job                              show the whole configuration, run nothing
"""
_GROUPS = ("data", "model", "train", "cluster", "job", "experiment")


def wanted(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def print_help(conf: str) -> None:
    """Print the help; ``conf`` is where the YAML files are."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path

    loader = ConfigLoaderImpl(create_config_search_path(conf if "://" in conf else f"file://{conf}"))
    console.print(_EXAMPLES)
    groups = Table("group", "choose with", "one of", title="Choices", title_justify="left", box=None)
    for group in _GROUPS:
        groups.add_row(group, f"{group}=…", ", ".join(loader.get_group_options(group)))
    console.print(groups)
    console.print()
    settings = Table("setting", "default", "meaning", title="Settings", title_justify="left", box=None)
    for name, default, meaning in _settings():
        settings.add_row(name, escape(default), escape(meaning))
    console.print(settings)


def _settings() -> list[tuple[str, str, str]]:
    rows = []
    for section in dataclasses.fields(Config):
        if section.name == "model":
            for name, kind in MODELS.items():
                rows += [(f"model.{key}", value, f"model={name}: {doc}") for key, value, doc in _fields(kind)]
        elif dataclasses.is_dataclass(section.type):
            rows += [(f"{section.name}.{key}", value, doc) for key, value, doc in _fields(section.type)]
        else:
            rows.append((section.name, _shown(section.default), section.metadata["doc"]))
    return [row for row in rows if not row[0].endswith(".name")]


def _fields(kind: Any) -> list[tuple[str, str, str]]:
    rows = []
    for item in dataclasses.fields(kind):
        factory: Any = item.default_factory
        default = factory() if item.default is dataclasses.MISSING else item.default
        doc = item.metadata["doc"]
        if item.metadata["choices"]:
            doc += f" ({', '.join(item.metadata['choices'])})"
        rows.append((item.name, _shown(default), doc))
    return rows


def _shown(value: Any) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
