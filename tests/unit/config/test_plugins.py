"""What can be wrong with a plug-in is named in one line, and what is right travels."""

import sys
from pathlib import Path

import pytest

from distributed_cls.config import plugins, registry
from distributed_cls.config.registry import SourceSpec, register_source
from distributed_cls.errors import UserError

_MODEL = """
from dataclasses import dataclass
from distributed_cls.config.registry import ModelSettings, register_model
from distributed_cls.config.section import setting

@register_model
@dataclass
class {kind}(ModelSettings):
    name: str = setting("{name}", "which model")
    def build(self, pixels, classes):
        return pixels
"""
_SOUND = _MODEL.format(kind="OwnConfig", name="own")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of plug-ins. What a test registers and imports is forgotten after it."""
    monkeypatch.setattr(registry, "_MODELS", registry.models())
    monkeypatch.setattr(registry, "_SOURCES", dict(registry._SOURCES))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("own.py", "import a_module_that_nobody_has", "own to be importable. Received: ModuleNotFoundError"),
        ("own.py", "raise SystemExit(3)", "own to be importable. Received: SystemExit: 3"),
        ("own.py", "def f(:", "own to be importable. Received: SyntaxError"),
        ("json.py", _SOUND, r"Received: .*json\.py, but there is a module json already \(.*Rename the file"),
        ("sys.py", _SOUND, r"Received: .*sys\.py, but there is a module sys already \(built in\)"),
        ("yaml.py", _SOUND, "there is a module yaml already"),
        (
            "own.py",
            _MODEL.format(kind="CnnConfig", name="cnn"),
            r"one model of each name\. Received: cnn in distributed_cls\.models\.cnn\.CnnConfig and own\.CnnConfig\.",
        ),
        ("own.py", _SOUND.replace("(ModelSettings)", ""), "no ModelSettings with a build of its own"),
        ("own.py", _SOUND.replace("def build", "def make"), "no ModelSettings with a build of its own"),
        ("own.py", _SOUND.replace("@dataclass\n", ""), r"own\.OwnConfig to be .* no dataclass\. Write @register_model"),
        ("own.py", _SOUND.replace("name:", "kind:"), "no field name with the model's name"),
        ("own.py", _SOUND.replace("    def", "    size: int = 3\n    def"), r"no setting\(…\) for size"),
    ],
)
def test_what_is_wrong_with_a_plug_in_is_named(folder: Path, file: str, content: str, expected: str) -> None:
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=expected) as raised:
        plugins.load()
    assert "\n" not in str(raised.value) and "own" not in registry.models()


def test_two_folders_cannot_have_a_file_of_the_same_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        (folder / name).mkdir()
        (folder / name / "own.py").write_text(_MODEL.format(kind="Config", name=name))
    monkeypatch.setenv(plugins.VARIABLE, f"{folder / 'one'}:{folder / 'two'}")
    with pytest.raises(UserError, match=r"Received: .*one/own\.py and .*two/own\.py\. Rename"):
        plugins.load()


def test_helpers_travel_and_are_imported_by_those_who_need_them(folder: Path) -> None:
    (folder / "__init__.py").write_text("raise AssertionError('nobody imports the folder itself')")
    (folder / "_sizes.py").write_text("SIZE = 7")
    (folder / "own.py").write_text(f"from _sizes import SIZE\n{_SOUND}    size: int = setting(SIZE, 'edge, pixels')\n")
    assert plugins.load() == ("own",)
    assert [path.name for path in plugins.files()] == ["_sizes.py", "own.py"]
    assert registry.model("own")().size == 7  # type: ignore[attr-defined]
    assert plugins.load() == ("own",)  # a second trial of a sweep


def test_two_sources_cannot_have_one_name(folder: Path) -> None:
    register_source(SourceSpec("lines", origin="mine"))
    register_source(SourceSpec("lines", origin="mine"))
    with pytest.raises(UserError, match=r"one data source of each name\. Received: lines in mine and yours\."):
        register_source(SourceSpec("lines", origin="yours"))


def test_a_module_is_found_from_its_root_whatever_its_depth(folder: Path) -> None:
    """A rank's process must not get the inside of a package on its path: its modules would hide Python's own."""
    (folder / "shop" / "nets").mkdir(parents=True)
    for file in ("shop/__init__.py", "shop/nets/__init__.py", "shop/nets/small.py", "alone.py"):
        (folder / file).touch()
    sys.path.append(str(folder))
    names = ["shop", "shop.nets", "shop.nets.small", "alone"]
    plugins.import_all(names)
    assert {plugins.module_root(name) for name in names} == {str(folder)}
