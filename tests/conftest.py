from pathlib import Path

import pytest

# Benchmarks import the peers that they measure against, which are no dependencies.
collect_ignore = ["benchmarks"]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout."""
    folder = Path(__file__).parents[1].resolve().parent / "shared"
    if not folder.is_dir():
        pytest.skip("no folder 'shared' beside the checkout")
    return folder
