"""A worker with a disk of its own at a path that all machines have: refused before anything is done on it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end import standalone
from tests.end_to_end.conftest import Launcher


@pytest.fixture(scope="module")
def own_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in whose place one worker sees another disk, in which the same folders happen to exist."""
    folder = tmp_path_factory.mktemp("own-disk")
    if subprocess.run(_elsewhere(folder, "true"), capture_output=True, check=False).returncode:
        pytest.skip("no mount namespace can be made here (unshare --mount, mount -t tmpfs)")
    return folder


def _elsewhere(folder: Path, *command: str) -> list[str]:
    """``command``, to which ``folder`` is another disk than to everyone else."""
    mount = f'mount -t tmpfs none "{folder}" && mkdir "{folder}/datasets" "{folder}/run" && exec "$@"'
    return ["unshare", "--mount", "sh", "-c", mount, "sh", *command]


@pytest.fixture(scope="module")
def master(own_disk: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with standalone.running(tmp_path_factory.mktemp("standalone")) as cluster:
        cluster.add_worker()
        cluster.add_worker(within=_elsewhere(own_disk))
        yield cluster.url


@pytest.mark.parametrize(
    ("setting", "name", "job"), [("dataset_root", "datasets", "prepare"), ("hydra.run.dir", "run", "pipeline")]
)
def test_a_place_that_one_worker_does_not_share_is_refused(
    setting: str, name: str, job: str, own_disk: Path, master: str, launch: Launcher
) -> None:
    place = own_disk / name
    ended = launch(f"job={job}", "cluster=standalone", f"cluster.master={master}", "model=dense", f"{setting}={place}")
    assert ended.code == 2, ended.output
    (line,) = ended.errors
    assert line.startswith(f"error: Expected {setting} on storage that the driver and every executor share. Received: ")
    assert f"{setting}={place}, which on the executor on " in line and "is another folder than the driver's" in line
    assert f"Set {setting} to a folder that every node mounts" in line
    assert "Decoding" not in ended.output
    assert not list(place.glob("digits-*")) and not list(place.glob(".marker*"))
