"""The module with the networks of the package panns-inference, imported without the package itself.

Importing that package starts `wget` where a file of labels is missing in the user's home, and its networks' module
imports matplotlib, which starts `fc-list` to look for fonts. Neither is needed for a network.
"""

from __future__ import annotations

import ast
import sys
from importlib.abc import SourceLoader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from birdemb.errors import MissingDependencyError

__all__ = ["import_networks"]

_PACKAGE = "panns_inference"
_ALIAS = "_birdemb_panns_inference"
"""Under which name the module is imported, so that whoever imports the package still gets the package."""


def import_networks() -> ModuleType:
    """Import ``panns_inference.models`` and nothing else of the package but what that needs.

    Returns
    -------
    module

    Raises
    ------
    MissingDependencyError
        If the package is not installed.
    """
    name = f"{_ALIAS}.models"
    if name in sys.modules:
        return sys.modules[name]
    package = find_spec(_PACKAGE)  # imports nothing
    folders = (package.submodule_search_locations if package is not None else None) or []
    path = next((path for folder in folders if (path := Path(folder) / "models.py").is_file()), None)
    if path is None:
        raise MissingDependencyError(
            "The package panns-inference, which holds PANNs' network Cnn14, is not installed. "
            "Run: pip install 'birdemb[torch]'"
        )
    alias = module_from_spec(ModuleSpec(_ALIAS, None, is_package=True))
    alias.__path__ = [str(path.parent)]  # where its own relative imports are looked for
    loader = _LoaderWithoutPlots(path)
    module = module_from_spec(ModuleSpec(name, loader, origin=str(path)))
    sys.modules[_ALIAS] = alias
    loader.exec_module(module)
    sys.modules[name] = module
    return module


class _LoaderWithoutPlots(SourceLoader):
    """Reads a module's source and leaves out its imports of matplotlib. Keeps no compiled copy."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def get_filename(self, fullname: str) -> str:  # noqa: ARG002 - it is of one module
        return str(self.path)

    def get_data(self, path: Any) -> bytes:  # noqa: ANN401 - as the base class has it
        return Path(path).read_bytes()

    def source_to_code(self, data: Any, path: Any = "<string>") -> CodeType:  # type: ignore[override] # noqa: ANN401
        tree = ast.parse(data)
        tree.body = [node for node in tree.body if not _is_import_of(node, "matplotlib")]
        code: CodeType = compile(tree, path, "exec", dont_inherit=True)
        return code


def _is_import_of(node: ast.stmt, package: str) -> bool:
    return isinstance(node, ast.Import) and all(f"{alias.name}.".startswith(f"{package}.") for alias in node.names)
