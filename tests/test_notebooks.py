"""The notebooks run without warnings and are stored without outputs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
NAMES = [path.name for path in NOTEBOOKS]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in the libraries that run the kernel


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]


@pytest.mark.deep
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_runs_without_warnings(path: Path) -> None:
    notebook = read(path)
    NotebookClient(
        notebook, resources={"metadata": {"path": str(FOLDER)}}, kernel_name="python3", timeout=300
    ).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    shown = {kind for output in outputs for kind in output.get("data", ())}
    assert {"text/html", "text/plain"} <= shown


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_notebook_has_no_outputs_and_no_local_paths(path: Path) -> None:
    notebook = read(path)
    for cell in notebook.cells:
        assert not cell.metadata
        if cell.cell_type == "code":
            assert (cell.outputs, cell.execution_count) == ([], None)
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|Users|work)/|[A-Z]:\\\\", text)
    assert text.endswith("}\n")


def test_notebooks_link_to_the_next() -> None:
    assert [name[:2] for name in NAMES] == [f"{number}-" for number in range(1, len(NAMES) + 1)]
    for path, following in zip(NOTEBOOKS, [*NAMES[1:], None], strict=True):
        links = re.findall(r"\]\((?!https?:)([^)]+)\)", "".join(cell.source for cell in read(path).cells))
        assert [following] == links if following else links == []
