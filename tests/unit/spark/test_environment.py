"""What of the machine's environment a Spark of our own gets, and that nothing of it stays."""

import locale
import os
from pathlib import Path

import pyspark
import pytest

from distributed_cls.spark import environment

PYSPARK_HOME = Path(pyspark.__file__).resolve().parent


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPARK_HOME", "SPARK_LOCAL_IP", "LC_ALL", *environment.CLASSIC):
        monkeypatch.delenv(name, raising=False)


def test_variables_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_LOCAL_DIRS", "/mine")
    monkeypatch.setenv("SPARK_REMOTE", "sc://x")
    before = dict(os.environ)
    with (
        pytest.raises(KeyboardInterrupt),
        environment.changed({"SPARK_LOCAL_IP": "127.0.0.1", "SPARK_LOCAL_DIRS": "/ours", "SPARK_REMOTE": None}),
    ):
        assert os.environ["SPARK_LOCAL_IP"] == "127.0.0.1" and os.environ["SPARK_LOCAL_DIRS"] == "/ours"
        assert "SPARK_REMOTE" not in os.environ
        raise KeyboardInterrupt
    assert dict(os.environ) == before


def test_loopback_is_for_this_machine_only(tmp_path: Path) -> None:
    assert environment.of_own_jvm("local[2]", tmp_path)["SPARK_LOCAL_IP"] == "127.0.0.1"
    assert "SPARK_LOCAL_IP" not in environment.of_own_jvm("spark://node:7077", tmp_path)


@pytest.mark.parametrize(
    ("codeset", "given"), [("ANSI_X3.4-1968", "C.UTF-8"), ("UTF-8", None), ("ISO-8859-1", None), ("646", "C.UTF-8")]
)
def test_java_reads_paths_as_python_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codeset: str, given: str | None
) -> None:
    monkeypatch.setattr(locale, "nl_langinfo", lambda _: codeset)
    assert environment.of_own_jvm("local[2]", tmp_path).get("LC_ALL") == given


def _home(folder: Path, jar: str | None) -> Path:
    (folder / "jars").mkdir(parents=True)
    if jar is not None:
        (folder / "jars" / jar).touch()
    return folder


@pytest.mark.parametrize("suffix", ["", "-amzn-1"])
def test_a_spark_home_of_the_same_release_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, suffix: str
) -> None:
    home = _home(tmp_path / "spark", f"spark-core_2.13-{pyspark.__version__}{suffix}.jar")
    monkeypatch.setenv("SPARK_HOME", str(home))
    assert environment.spark_home() == home
    assert caplog.messages == []


@pytest.mark.parametrize(("jar", "told"), [("spark-core_2.12-3.5.1.jar", "3.5.1"), (None, "no Spark")])
def test_a_stale_spark_home_is_named_and_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, jar: str | None, told: str
) -> None:
    home = _home(tmp_path / "old", jar)
    monkeypatch.setenv("SPARK_HOME", str(home))
    assert environment.spark_home().resolve() == PYSPARK_HOME
    assert caplog.messages == [f"SPARK_HOME={home} is not used: it holds {told}, pyspark is {pyspark.__version__}."]
    assert os.environ["SPARK_HOME"] == str(home)


def test_spark_connect_is_named_and_not_used(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    assert environment.CLASSIC.items() <= environment.of_driver("python3").items() and caplog.messages == []
    monkeypatch.setenv("SPARK_REMOTE", "sc://host")
    with environment.changed(environment.of_driver("python3")):
        assert "SPARK_REMOTE" not in os.environ and os.environ["PYSPARK_PYTHON"] == "python3"
    assert len(caplog.messages) == 1 and caplog.messages[0].startswith("SPARK_REMOTE is not used")


def test_what_pyspark_sets_itself_does_not_stay_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_BUFFER_SIZE", "1")
    monkeypatch.delenv("SPARK_AUTH_SOCKET_TIMEOUT", raising=False)
    with environment.changed(environment.of_driver("python3")):
        assert os.environ["SPARK_BUFFER_SIZE"] == "1"
        os.environ.update(SPARK_BUFFER_SIZE="65536", SPARK_AUTH_SOCKET_TIMEOUT="15")
    assert os.environ["SPARK_BUFFER_SIZE"] == "1" and "SPARK_AUTH_SOCKET_TIMEOUT" not in os.environ
