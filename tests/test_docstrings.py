"""What the docstrings of public functions must say."""

import ast
import inspect

from akd_jax import losses
from tests.support.launching import ROOT

# Parts of losses, and definitions of textbooks: they have no paper of their own.
WITHOUT_SOURCE = {
    "Average",
    "Balanced",
    "ClassReduction",
    "LayerStrategy",
    "ModuleSum",
    "Sum",
    "Tail",
    "balance",
    "bind",
    "chunked",
    "compose",
    "cross_entropy",
    "ctc_alignable",
    "fold_names",
    "layer_map",
    "linear_chunked",
    "masked_mean",
    "projector",
    "squared_error",
    "supervised",
}


def public_functions():
    """Yields the path, the name and the syntax tree of each public function and method."""
    for path in sorted((ROOT / "akd_jax").rglob("*.py")):
        pending = [("", ast.parse(path.read_text(encoding="utf-8")), "")]
        while pending:
            prefix, parent, of_class = pending.pop()
            for node in getattr(parent, "body", []):
                name = getattr(node, "name", "_")
                if name.startswith("_") and name != "__call__":
                    continue
                if isinstance(node, ast.ClassDef):
                    pending.append((f"{name}.", node, ast.get_docstring(node) or ""))
                if isinstance(node, ast.FunctionDef):
                    yield f"{path.relative_to(ROOT)}: {prefix}{name}", node, of_class


def raised_errors(function):
    """The names of the errors that a function's own code raises, except for those it catches."""
    caught = {
        node
        for block in ast.walk(function)
        if isinstance(block, ast.Try)
        for statement in block.body
        for node in ast.walk(statement)
    }
    raised = [
        node.exc
        for node in ast.walk(function)
        if isinstance(node, ast.Raise) and node.exc and node not in caught
    ]
    called = [error.func if isinstance(error, ast.Call) else error for error in raised]
    names = {error.id for error in called if isinstance(error, ast.Name)}
    return {name for name in names if name.endswith("Error")}


def test_public_functions_have_a_summary_and_their_errors():
    missing = []
    for name, function, of_class in public_functions():
        docstring = ast.get_docstring(function) or ""
        summary = docstring.split("\n\n")[0]
        if not summary.endswith((".", ":")):
            missing.append(f"{name}: no summary")
        missing += [
            f"{name}: {error} is not in Raises"
            for error in raised_errors(function)
            if error not in docstring and error not in of_class
        ]
    assert missing == []


def test_losses_have_shapes_errors_and_a_source():
    missing = []
    for name in losses.__all__:
        loss = getattr(losses, name)
        if not callable(loss) or name in WITHOUT_SOURCE:
            continue
        methods = vars(loss).values() if inspect.isclass(loss) else ()
        parts = [loss, *(method for method in methods if inspect.isfunction(method))]
        docstring = "\n".join(inspect.getdoc(part) or "" for part in parts)
        missing += [
            f"{name}: no {what}"
            for what, text in (("shape", "["), ("error", "Raises:"), ("source", "Source"))
            if text not in docstring
        ]
    assert missing == []


def test_the_parts_of_losses_exist():
    assert set(losses.__all__) >= WITHOUT_SOURCE
