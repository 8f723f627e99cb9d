"""Where the trials of a search are kept: an Optuna study in a file of SQLite.

SQLite and not Optuna's journal file, as each step is a transaction: trials survive a kill at any moment and two
processes at once, while a line that is half-written makes a journal unreadable.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from birdemb.errors import InputError, MissingDependencyError
from birdemb.storage import check_writable

__all__ = ["import_optuna", "open_study"]

_PATIENCE = 60.0  # seconds for another process to end its step


def import_optuna() -> Any:  # noqa: ANN401 - a module without types
    """Import Optuna.

    Returns
    -------
    module

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise MissingDependencyError(
            "Optuna, which searches for parameters, is not installed. Run: pip install 'birdemb[tune]'"
        ) from error
    return optuna


@contextmanager
def open_study(path: Path, name: str, pruner: Any) -> Iterator[Any]:  # noqa: ANN401
    """Give the study of this name, new or with the trials that it has; meanwhile Optuna only warns.

    Parameters
    ----------
    path : Path
        The file; made if need be.
    name : str
    pruner : optuna.pruners.BasePruner

    Yields
    ------
    optuna.Study
        In which a larger value is better.

    Raises
    ------
    InputError
        If the file cannot be made, read or written, also by what is done inside the block.
    """
    optuna = import_optuna()
    from sqlalchemy.exc import SQLAlchemyError

    loggers = logging.getLogger("optuna"), logging.getLogger("alembic")
    levels = [logger.level for logger in loggers]
    loggers[0].setLevel(logging.WARNING)
    storage = None
    try:
        if not path.exists():
            _create(path, optuna)
        storage = _connect(path, optuna)
        yield optuna.create_study(
            study_name=name, storage=storage, direction="maximize", load_if_exists=True, pruner=pruner
        )
    except (SQLAlchemyError, sqlite3.Error, optuna.exceptions.StorageInternalError) as error:
        cause = error.__cause__ or error
        raise InputError(
            f"{path} cannot be used for the trials: {str(cause).splitlines()[0]}. "
            "Make room if the disk is full; delete the file, and the trials with it, if it is damaged."
        ) from error
    finally:
        if storage is not None:
            _disconnect(storage)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _create(path: Path, optuna: Any) -> None:  # noqa: ANN401
    """Make the file. Processes that make its tables at the same moment would disturb each other: one file wins."""
    check_writable(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        _disconnect(_connect(temporary, optuna))
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # this disk has no hard links
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _connect(path: Path, optuna: Any) -> Any:  # noqa: ANN401
    from sqlalchemy.pool import QueuePool

    # By a function and not by a URL, in which some characters of a path have a meaning.
    def connect() -> sqlite3.Connection:
        return sqlite3.connect(path, timeout=_PATIENCE, check_same_thread=False)

    return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


def _disconnect(storage: Any) -> None:  # noqa: ANN401
    storage.remove_session()
    storage.engine.dispose()
