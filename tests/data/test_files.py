import pytest

from clirscale.data.files import existing
from clirscale.errors import DataError


def test_nearest_sibling(tmp_path):
    (tmp_path / "help_train.jsonl.gz").touch()
    (tmp_path / "wiki.jsonl").touch()
    with pytest.raises(DataError, match=r"help_trian\.jsonl\.gz: no such file; did you mean 'help_train\.jsonl\.gz'\?"):
        existing(str(tmp_path / "help_trian.jsonl.gz"))


def test_no_similar_sibling(tmp_path):
    (tmp_path / "wiki.jsonl").touch()
    with pytest.raises(DataError, match="no file of a similar name"):
        existing(str(tmp_path / "zzz"))


def test_missing_parent(tmp_path):
    with pytest.raises(DataError, match="missing does not exist either"):
        existing(str(tmp_path / "missing" / "a.jsonl"))


@pytest.mark.parametrize(("name", "folder"), [("a.jsonl", True), ("sub", False)])
def test_file_for_folder(tmp_path, name, folder):
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "sub").mkdir()
    with pytest.raises(DataError, match="is a file; give a folder" if folder else "is a folder; give a file"):
        existing(str(tmp_path / name), folder=folder)
