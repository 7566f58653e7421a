"""The journal of a sweep: finished rows on disk, so that an interrupted sweep goes on where it stopped."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any

from simtrain.errors import InputError
from simtrain.scenario.scenario import Scenario

__all__ = ["Journal", "digest_of"]

_DESCRIPTION = {"name", "title", "notes"}
"""Keys of a scenario that change no number."""


class Journal:
    """Rows by digest in an SQLite file that one sweep at a time holds open.

    Every transaction is on disk or not at all, whenever the program is stopped (write-ahead log).
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._blamed():
            self._database = sqlite3.connect(path, timeout=0.5)
            # Held by one process, the log needs no shared memory: it works on network folders too.
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")
            self._database.execute("PRAGMA journal_mode = WAL")
            with self._database:
                self._database.execute("CREATE TABLE IF NOT EXISTS rows (digest TEXT PRIMARY KEY, row TEXT NOT NULL)")

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._database.close()

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """What the disk or another program did to the file is told as such: a full disk, a lock, a damaged page."""
        try:
            yield
        except (sqlite3.DatabaseError, ValueError) as error:
            if isinstance(error, sqlite3.OperationalError) and "no such column" not in str(error):
                what = "another sweep is writing it" if "locked" in str(error) else str(error)
                raise InputError(f"{self.path} cannot be used: {what}") from None
            raise InputError(
                f"{self.path} is not the journal of a sweep, or damaged; remove it, or give another --output"
            ) from None

    def rows(self) -> dict[str, dict[str, Any]]:
        """All rows in it, by digest."""
        with self._blamed():
            return {digest: json.loads(row) for digest, row in self._database.execute("SELECT digest, row FROM rows")}

    def add(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """Keep finished rows, by digest."""
        values = [(digest, json.dumps(row)) for digest, row in rows.items()]
        with self._blamed(), self._database:
            self._database.executemany("INSERT OR REPLACE INTO rows VALUES (?, ?)", values)

    def remove(self, digests: Iterable[str]) -> None:
        """Forget rows."""
        with self._blamed(), self._database:
            self._database.executemany("DELETE FROM rows WHERE digest = ?", [(digest,) for digest in digests])


def digest_of(scenario: Scenario) -> str:
    """A name for all that decides a scenario's row: every value of it, and the program."""
    document = scenario.model_dump(mode="json", exclude=_DESCRIPTION)
    return sha256(f"{_program()} {json.dumps(document, sort_keys=True)}".encode()).hexdigest()


@cache
def _program() -> str:
    """The program's version: a digest of its own code, the number of the version among it."""
    code = sha256()
    package = Path(__file__).resolve().parents[1]
    for path in sorted(package.rglob("*.py")):
        code.update(path.relative_to(package).as_posix().encode())
        code.update(path.read_bytes())
    return code.hexdigest()
