"""The quickstart notebook runs from its first cell to its last, and learns something."""

import sys
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient

from tests.end_to_end.conftest import processes_of
from tests.patience import JOB_PATIENCE, PATIENCE

NOTEBOOK = Path(__file__).parents[2] / "docs" / "quickstart.ipynb"


class ThisPython(KernelSpecManager):
    """Runs the notebook with the interpreter of the tests, whatever kernels the user has."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=command, display_name=kernel_name, language="python")


class Kernel(AsyncKernelManager):
    """Belongs to its client, which ends it: a manager that is handed to a client is left running by it."""

    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return ThisPython()


def test_the_quickstart_runs_and_learns(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(
        notebook,
        timeout=int(JOB_PATIENCE),
        startup_timeout=int(PATIENCE),
        kernel_manager_class=Kernel,
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()
    assert processes_of(tmp_path) == []
    printed = "".join(
        output.get("text", "")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if cell.cell_type == "code"
    )
    accuracy = float(printed.split("test ")[1].split("%")[0])
    assert accuracy > 90
    assert "images are taken for another digit" in printed
