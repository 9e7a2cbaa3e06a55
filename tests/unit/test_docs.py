"""The pages are true of the code: their commands compose, their links lead somewhere, what they quote is there."""

import ast
import configparser
import contextlib
import functools
import importlib
import io
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from launch import flags, help, schema
from launch.composition import compose
from launch.suggestions import settings
from launch.text_values import kept_as_written

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(DOCS.rglob("*.ipynb"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]

# What a command of a page begins with; its settings follow.
_SUBMITTED = r"spark-submit\b[^`]*?(?:launch/__main__\.py|--main-file\)\"?)"
_PROGRAM = re.compile(rf"(?:python -m launch|{_SUBMITTED}|distributed-cls)(?P<rest>(?: .*)?)$")
_FENCE = re.compile(r"^ *```")
_SHELL = re.compile(r"[|;&]|\d?>>?(&\d)?.*")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FILES = ("model.json", "model.keras", "suspects.csv", "suspects.html")  # that look like settings


@dataclass(frozen=True)
class Command:
    page: str
    number: int  # of its first line
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page}:{self.number} {' '.join(self.words)}"[:100]


@functools.cache
def text_of(name: str) -> str:
    """A page's text, of a notebook its Markdown cells."""
    text = (ROOT / name).read_text(encoding="utf-8")
    if not name.endswith(".ipynb"):
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


def logical_lines(text: str) -> Iterator[tuple[int, str, bool]]:
    """(number, line, whether it is code), lines that end in a backslash together with those that they go on in."""
    fenced, begun, whole = False, 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if _FENCE.match(line):
            fenced = not fenced
            continue
        begun = begun if whole else number
        whole += line
        if whole.endswith("\\"):
            whole = whole[:-1]
            continue
        yield begun, whole, fenced or whole.startswith("    ")
        whole = ""


def commands_of(name: str) -> list[Command]:
    found = []
    for number, line, is_code in logical_lines(text_of(name)):
        # In a sentence a command stands between backticks, in a table too.
        for part in [line] if is_code else re.findall(r"`([^`]+)`", line):
            match = _PROGRAM.search(part)
            if match:
                found.append(Command(name, number, tuple(_words(match["rest"]))))
    return [command for command in found if command.words]


def _words(rest: str) -> Iterator[str]:
    """The arguments of a command: no comment, no pipe, placeholders (…, <images>) by something that is no setting."""
    for word in shlex.split(rest, comments=True):
        if _SHELL.fullmatch(word):
            return
        yield re.sub(r"<[^>]*>|…", "x", word)


COMMANDS = [command for name in NAMES for command in commands_of(name)]


def test_there_are_commands() -> None:
    pages = {command.page for command in COMMANDS}
    assert len(COMMANDS) > 45
    assert pages >= {
        *("README.md", "docs/clusters.md", "docs/plugins.md", "docs/preparation.md", "docs/quickstart.ipynb"),
        *("docs/recipes.md", "docs/serving.md", "docs/training.md", "docs/operations.md"),
        *("docs/stories/car-makers.md", "docs/stories/clothing.md"),
    }


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_composes(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if command.page == "docs/plugins.md":
        pytest.skip("its examples need their plug-ins; tests/unit/launch/test_plugins.py runs them")
    words = ["job.json=true" if word == "--json" else word for word in command.words]  # as launch.__main__ does
    schema.register()
    monkeypatch.chdir(tmp_path)
    if {"--version", "--main-file", "--archive", "--prepare-java"} & set(words):
        assert len(words) == 1
        return
    if help.wanted(words):
        with contextlib.redirect_stdout(io.StringIO()):
            help.print_help(words)
        return
    flags.check(words)
    words = [word for word in words if not word.startswith("resume=")]  # of a run that is not there
    chosen = [word for word in kept_as_written(words) if "=" in word]
    rest = [word for word in words if "=" not in word]
    assert set(rest) <= {"-m", "--cfg", "job"}, rest
    trials = [chosen]
    if "-m" in rest:
        overrides = OverridesParser.create().parse_overrides(overrides=chosen)
        # What a sampler draws from an interval is a number like its start.
        ends = [f"{each.key_or_group}={each.value().start}" for each in overrides if each.is_interval_sweep()]
        lists = [each for each in overrides if not each.is_interval_sweep()]
        trials = [[*trial, *ends] for batch in BasicSweeper.split_arguments(lists, None) for trial in batch]
    for trial in trials:
        composed, _ = compose(trial)
        schema.to_config(composed)


# ── links and names ──────────────────────────────────────────────────────────────────────────────────────────────────


def anchors(name: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: set[str] = set()
    for _, line, is_code in logical_lines(text_of(name)):
        match = re.match(r"#+ (.*)", line)
        if match and not is_code:
            words = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[1]).lower())
            found.add(words.strip().replace(" ", "-"))
    return found


def links_of(name: str) -> list[str]:
    lines = [line for _, line, is_code in logical_lines(text_of(name)) if not is_code]
    return [link for line in lines for link in _LINK.findall(re.sub(r"`[^`]*`", "", line))]


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_something(name: str) -> None:
    for link in links_of(name):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / place).resolve() if place else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(str(target.relative_to(ROOT))), link


def test_the_table_of_contents_has_every_page() -> None:
    listed = {(DOCS / link).resolve() for link in links_of("docs/README.md")}
    pages = [page for page in PAGES if DOCS in page.parents and page.parent != DOCS / "decisions"]
    assert {page for page in pages if page.name != "README.md"} <= listed
    assert DOCS / "decisions" / "README.md" in listed
    decisions = {(DOCS / "decisions" / link).resolve() for link in links_of("docs/decisions/README.md")}
    assert decisions == {page for page in (DOCS / "decisions").glob("*.md") if page.name != "README.md"}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "docs/plugins.md"])
def test_settings_that_a_page_names_are_there(name: str) -> None:
    schema.register()
    sections = "|".join(sorted({setting.partition(".")[0] for setting in settings() if "." in setting}))
    named = re.findall(rf"`'?\+?((?:{sections})\.\w+)(?:=[^`]*)?`", text_of(name))
    assert {found for found in named if found not in _FILES} <= set(settings())


# ── what is quoted from the code ─────────────────────────────────────────────────────────────────────────────────────


def python_blocks(name: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text_of(name), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", [name for name in NAMES if python_blocks(name)])
def test_python_code_compiles(name: str) -> None:
    for number, block in enumerate(python_blocks(name)):
        compile(block, f"{name}, block {number}", "exec")


def test_the_page_of_settings_is_the_one_that_its_script_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISTRIBUTED_CLS_PLUGINS", raising=False)
    # A process of its own: tests of plug-ins may have registered models in this one.
    code = f"import sys; sys.path.insert(0, {str(DOCS)!r}); import make_settings; print(make_settings.page(), end='')"
    written = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    page = DOCS / "settings.md"
    assert written.stdout == page.read_text(encoding="utf-8"), "run python docs/make_settings.py"
    schema.register()
    text = written.stdout
    assert all(f"`{setting}`" in text for setting in settings() if setting != "model.name")


@functools.cache
def texts_of_the_code() -> list[str]:
    """Every text of the code, with … in the place of what is put in."""
    found = []
    for path in [*(ROOT / "distributed_cls").rglob("*.py"), *(ROOT / "launch").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(re.sub(r"%[\d.]*[sdfg]", "…", node.value))
    return found


def quoted_messages() -> list[str]:
    """The first column of the tables of troubleshooting.md, where it is a message of ours."""
    rows = re.findall(r"^\| (`.+?`)([^|]*)\|", text_of("docs/troubleshooting.md"), re.MULTILINE)
    return [quoted.strip("`") for quoted, note in rows if "itself" not in note]


@pytest.mark.parametrize("message", quoted_messages())
def test_a_quoted_message_is_one_of_the_code(message: str) -> None:
    pattern = re.compile(".*".join(map(re.escape, re.split("…+", message))), re.DOTALL)
    assert any(pattern.search(text) for text in texts_of_the_code()), message


def test_most_messages_are_quoted() -> None:
    assert len(quoted_messages()) > 40


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("manifest.json", "manifest"),
        ("index.parquet", "index"),
        ("checkpoints/*.npz", "checkpoint"),
        ("metrics.jsonl", "events"),
        ("summary.json", "summary"),
        ("evaluation.json", "evaluation_result"),
        ("trials.json", "trials_table"),
        ("model/model.json", "export"),
        ("_plan.parquet", "predict_output"),
        ("_summary.json", "predicted"),
    ],
)
def test_the_formats_that_are_read_are_told(file: str, module: str) -> None:
    newest = importlib.import_module(f"distributed_cls.contracts.{module}").SCHEMA_VERSION
    told = text_of("docs/operations.md").partition("## Upgrades")[2]
    row = re.search(rf"^\|[^|]*`{re.escape(file)}`[^|]*\|([^|]*)\|([^|]*)\|", told, re.MULTILINE)
    assert row is not None
    assert int(row[1]) == newest
    assert row[2].split(",")[-1].strip() == str(newest)


def test_the_versions_that_are_supported_are_those_of_setup_cfg() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    allowed = {*setup["options"]["install_requires"].split("\n"), setup["options"]["python_requires"]}
    told = re.findall(r"`([\w-]*[>=<][^`]*)`", text_of("docs/operations.md").partition("## Supported versions")[2])
    assert len(told) == 5
    assert set(told) <= allowed
