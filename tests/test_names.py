"""A name says what a value is: `found`, `made` and `told` only say that there is one."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EMPTY_NAMES = {"found", "made", "told"}
FILES = [ROOT / "launch.py", *sorted(ROOT.glob("mucpt_jax/**/*.py")), *sorted(ROOT.glob("data_prep/**/*.py"))]


def bound_name(node: ast.AST) -> str | None:
    """What a node names: a variable, an attribute that is set, a parameter, a function; else None."""
    if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
        return node.id if isinstance(node, ast.Name) else node.attr
    if isinstance(node, ast.arg):
        return node.arg
    return getattr(node, "name", None)  # def, class, except ... as, case ... as


def empty_names(source: str) -> list[str]:
    """["function:line name"] of all that source binds to an empty name; outside functions "module:line name"."""
    places = []

    def visit(node: ast.AST, function: str) -> None:
        if bound_name(node) in EMPTY_NAMES:
            places.append(f"{function}:{node.lineno} {bound_name(node)}")
        inside = node.name if isinstance(node, ast.FunctionDef) else function
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(source), "module")
    return places


def test_every_way_of_binding_is_seen():
    source = """
class Run:
    made: int = 0
def visit(told, *, of=lambda found: found):
    self.found = [made for made, _ in of]
    if (told := of) or found.total:
        return read(made=1)
"""
    names = ["module:3 made", "visit:4 told", "visit:4 found", "visit:5 found", "visit:5 made", "visit:6 told"]
    assert sorted(empty_names(source)) == sorted(names)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_no_value_is_called_found_made_or_told(file):
    empty = empty_names(file.read_text())
    assert not empty, f"{file}: name what the value is: {', '.join(empty)}"
