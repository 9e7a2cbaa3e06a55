"""A model and a data source from outside of the package: one .py and one .yaml each, in a folder of their own."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from distributed_cls.config import plugins
from distributed_cls.errors import UserError
from tests.patience import PATIENCE

# The worked examples of the guide, in their order: model, its YAML, source, its YAML.
_GUIDE = Path(__file__).resolve().parents[3] / "docs" / "plugins.md"
_MODEL, _MODEL_YAML, _SOURCE, _SOURCE_YAML = re.findall(r"```(?:python|yaml)\n(.*?)```", _GUIDE.read_text(), re.DOTALL)

_PROGRAM = """
import json, sys
from hydra import compose, initialize_config_dir
from launch import schema
from launch.composition import CONF
from distributed_cls.config import plugins, to_dict
from distributed_cls.contracts.rank_task import RankTask, Step, dump_task

schema.register()
assert "keras" not in sys.modules and "tensorflow" not in sys.modules
with initialize_config_dir(config_dir=CONF, version_base="1.3"):
    config = schema.to_config(compose("config", overrides=sys.argv[1:]))
from distributed_cls.dataset.sources import list_images
listing = list_images(config.data, "/nowhere")
from distributed_cls.models.building import build
model = build(config.model, config.data.image_size, 3)
print(json.dumps({
    "scale": config.model.scale,
    "classes": listing.classes(),
    "parameters": model.count_params(),
    "task": dump_task(RankTask(config, "d", "f", "r", (Step.TRAIN,), plugins=plugins.load())),
}))
"""

_RANK = """
import sys
from distributed_cls.config import plugins
from distributed_cls.contracts import rank_task

text = sys.stdin.read()
plugins.import_all(rank_task.plugins_of(text))
print(type(rank_task.load_task(text).config.model).__name__)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plug" / "conf" / "model").mkdir(parents=True)
    (tmp_path / "plug" / "conf" / "data").mkdir()
    (tmp_path / "plug" / "my_model.py").write_text(_MODEL)
    (tmp_path / "plug" / "my_source.py").write_text(_SOURCE)
    (tmp_path / "plug" / "conf" / "model" / "linear.yaml").write_text(_MODEL_YAML)
    (tmp_path / "plug" / "conf" / "data" / "lines.yaml").write_text(_SOURCE_YAML)
    (tmp_path / "list.txt").write_text("a.png cat\nb.png dog\nc.png emu\n")
    return tmp_path / "plug"


def _run(
    program: str, *arguments: str, environment: dict[str, str], text: str = ""
) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).resolve().parents[3])
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_one_file_and_one_yaml_each_are_all_that_a_model_and_a_source_need(folder: Path) -> None:
    chosen = ("model=linear", "model.scale=127.5", "data=lines", f"data.path={folder.parent / 'list.txt'}")
    done = _run(_PROGRAM, *chosen, environment={plugins.VARIABLE: str(folder)})
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["scale"] == 127.5 and said["classes"] == ["cat", "dog", "emu"]
    assert said["parameters"] == (16 * 16 * 3 + 1) * 3
    # A rank's process knows no folder of plug-ins: the task names the modules, which have travelled with the package.
    rank = _run(_RANK, environment={"PYTHONPATH": f"{Path(__file__).resolve().parents[3]}:{folder}"}, text=said["task"])
    assert rank.stdout.strip() == "LinearConfig", rank.stderr[-2000:]


def test_its_limits_are_checked_as_any_other(folder: Path) -> None:
    small = _run(_PROGRAM, "model=linear", "data.image_size=8", environment={plugins.VARIABLE: str(folder)})
    assert "Expected data.image_size to be at least 16 for model=linear. Received: data.image_size=8." in small.stderr


def test_what_cannot_be_imported_or_found_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.VARIABLE, str(folder / "nothing"))
    with pytest.raises(UserError, match=rf"{plugins.VARIABLE}\. Received: .*nothing, no such folder"):
        plugins.load()
    broken = folder / "broken"
    broken.mkdir()
    (broken / "a_broken_plugin.py").write_text("import a_module_that_nobody_has\n")
    monkeypatch.setenv(plugins.VARIABLE, str(broken))
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(UserError, match=r"a_broken_plugin to be importable\. Received: ModuleNotFoundError"):
        plugins.load()
