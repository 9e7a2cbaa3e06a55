"""``python -m launch --help [section]``: the groups, the settings with their meanings, and commands to begin with."""

import dataclasses
import shutil
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from distributed_cls.config import Config
from distributed_cls.config.registry import models
from distributed_cls.config.section import choices_of, shown
from distributed_cls.errors import UserError
from launch.composition import compose, initialized
from launch.suggestions import GROUPS

_EXAMPLES = """[bold]python -m launch[/bold] trains and evaluates an image classifier on a Spark cluster.

  python -m launch                                  digits, two workers
  python -m launch data=folder data.path=/images    a folder for each class
  python -m launch experiment=cars data.path=/cars  fine-tunes a ResNet50
  python -m launch job=serve model_dir=runs/latest  a web page for the model
  python -m launch -m model=dense,cnn               a sweep, with a table
  python -m launch --help train                     one section of the settings
  python -m launch data=folder --help data          defaults of that choice
  python -m launch --cfg job                        prints the configuration
  python -m launch --version                        prints the release
  python -m launch --prepare-java                   lets Spark start faster
  spark-submit $(distributed-cls --main-file) …     on a cluster, after pip
"""
_HYDRA = [
    ("resume", "", "go on with the run (with -m: the sweep) in this folder, under its own settings"),
    ("hydra.run.dir", "runs/<date>/<time>-…", "folder of the run"),
    ("hydra.sweep.dir", "runs/<date>/<time>-…", "folder of a sweep (-m)"),
    ("hydra.sweeper.n_trials", "12", "experiment=search: number of trials"),
]
_MAX_COLUMNS, _MIN_COLUMNS = 100, 60


def wanted(arguments: list[str]) -> bool:
    return "--help" in arguments or "-h" in arguments


def print_help(arguments: list[str]) -> None:
    """Print the help that the command line ``arguments`` asks for.

    Defaults are those of the choices that the command line makes. Raises UserError for a section or a setting that is
    not there.
    """
    columns = shutil.get_terminal_size((_MAX_COLUMNS, 24)).columns  # COLUMNS, where it is a number, decides
    console = Console(width=max(_MIN_COLUMNS, min(columns, _MAX_COLUMNS)), highlight=False)
    chosen = [argument for argument in arguments if "=" in argument and not argument.startswith("-")]
    asked = [argument for argument in arguments if "=" not in argument and not argument.startswith("-")]
    composed, _ = compose(chosen)
    tables = dict(_settings(composed))
    known = {*tables, *(row[0] for rows in tables.values() for row in rows)}
    for name in asked:
        if name not in known:
            raise UserError(f"Expected a section ({', '.join(tables)}) or a setting. Received: --help {name}.")
    if not asked:
        console.print(_EXAMPLES)
        groups = Table("choose with", "one of", title="Choices", title_justify="left", box=None)
        with initialized() as loader:
            for group in GROUPS:
                groups.add_row(f"{group}=…", ", ".join(sorted(loader.get_group_options(group))))
        console.print(groups)
        console.print()
    for section, rows in tables.items():
        shown_rows = [row for row in rows if not asked or section in asked or row[0] in asked]
        if shown_rows:
            console.print(_table(section, shown_rows))
    if not asked:
        console.print(_table("folders and sweeps", _HYDRA))


def _table(title: str, rows: list[tuple[str, str, str]]) -> Table:
    table = Table(title=f"[bold]{title}[/bold]", title_justify="left", box=None, show_header=False, padding=(0, 1))
    table.add_column(overflow="fold", min_width=24)
    table.add_column(overflow="fold", max_width=22, style="cyan")
    table.add_column(overflow="fold")
    for name, default, meaning in rows:
        table.add_row(name, escape(default), escape(meaning))
    table.add_row("", "", "")
    return table


def _settings(composed: DictConfig) -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """(section, its settings as (name, default, meaning)); those outside of any section come last."""
    alone = []
    for section in dataclasses.fields(Config):
        if section.name == "model":
            rows = []
            for name, kind in models().items():
                given = composed.model if composed.model.name == name else None
                own = _fields(kind, given)
                rows += [(f"model.{key}", value, f"model={name}: {doc}") for key, value, doc in own if key != "name"]
            yield "model", rows
        elif dataclasses.is_dataclass(section.type):
            found = _fields(section.type, composed[section.name])
            yield section.name, [(f"{section.name}.{key}", value, doc) for key, value, doc in found]
        else:
            alone.append((section.name, shown(composed[section.name]), section.metadata["doc"]))
    yield "run", alone


def _fields(kind: Any, composed: DictConfig | None) -> list[tuple[str, str, str]]:
    rows = []
    for item in dataclasses.fields(kind):
        factory: Any = item.default_factory
        value = factory() if item.default is dataclasses.MISSING else item.default
        if composed is not None:
            value = OmegaConf.to_container(composed)[item.name]  # type: ignore[index,call-overload]
        doc, choices = item.metadata["doc"], choices_of(item.metadata)
        rows.append((item.name, shown(value), f"{doc} ({', '.join(choices)})" if len(choices) > 1 else doc))
    return rows
