"""The rooms import in one direction, and each library stays where it belongs."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "clirscale"
ROOMS = ("data", "models", "training", "retrieval", "study")  # a room may import those before it
RECORDS_ONLY = {"analysis": set(), "report": {"analysis"}}
LIBRARIES = {  # where a library may be imported
    "hydra": {"study", "launch"},
    "omegaconf": {"study", "launch"},
    "lightning": {"training", "study"},  # study: seeding and the type of a logger
    "wandb": {"training"},
    "faiss": {"retrieval"},
    "bm25s": {"retrieval"},
    "ir_measures": {"retrieval"},
    "huggingface_hub": {"data", "models"},
    "transformers": {"models"},
    "matplotlib": {"report"},
    "jinja2": {"report"},
}


def imports_of(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def files():
    return sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports(path):
    room = room_of(path)
    for module in imports_of(path):
        top, *rest = module.split(".")
        if top in LIBRARIES:
            assert room in LIBRARIES[top], f"{module} does not belong in {room}"
        if top != "clirscale" or not rest or rest[0] in ("errors", room) or room in ("launch", "__main__"):
            continue
        if room in RECORDS_ONLY:
            assert rest[0] in RECORDS_ONLY[room], f"{room} imports {module}"
        elif room in ROOMS:
            assert rest[0] == "config" or rest[0] in ROOMS[: ROOMS.index(room)], f"{room} imports {module}"
        else:
            assert room in ("config", "errors", "__init__"), f"{room} is no room"
            raise AssertionError(f"{room} imports {module}")


def test_analysis_does_not_need_torch():
    for path in (p for room in RECORDS_ONLY for p in (SOURCE / room).rglob("*.py")):
        assert not {"torch", "lightning", "transformers", "hydra"} & {m.split(".")[0] for m in imports_of(path)}, path
