"""SQLite behind the exchange: what was acknowledged is on disk before the acknowledgement leaves.

WAL with ``synchronous=NORMAL``: a killed process loses nothing; a machine that loses power may lose the last
moments, never consistency. Records are JSON of the domain's dataclasses, one table a kind.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from tradingbot.paper.accounts import Account, Agent
from tradingbot.paper.market import Shock
from tradingbot.paper.nonces import Nonces
from tradingbot.paper.orders import Order
from tradingbot.paper.world import Changes, Fill, Funding, FundingRate, LedgerEntry, LogEntry, World

FILE_NAME = "paper.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS accounts (key TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS agents (key TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS nonces (key TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS orders (key INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS fills (key INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS fundings (key INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS rates (key INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS ledger (key INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS shocks (key INTEGER PRIMARY KEY AUTOINCREMENT, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS log (key INTEGER PRIMARY KEY, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS facts (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
"""
_ACCOUNT: TypeAdapter[Account] = TypeAdapter(Account)
_AGENT: TypeAdapter[Agent] = TypeAdapter(Agent)
_ORDER: TypeAdapter[Order] = TypeAdapter(Order)
_FILL: TypeAdapter[Fill] = TypeAdapter(Fill)
_FUNDING: TypeAdapter[Funding] = TypeAdapter(Funding)
_RATE: TypeAdapter[FundingRate] = TypeAdapter(FundingRate)
_LEDGER: TypeAdapter[LedgerEntry] = TypeAdapter(LedgerEntry)
_SHOCK: TypeAdapter[Shock] = TypeAdapter(Shock)
_LOG: TypeAdapter[LogEntry] = TypeAdapter(LogEntry)


class Store:
    """One exchange's file."""

    def __init__(self, folder: Path | None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(":memory:" if folder is None else folder / FILE_NAME, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    def fact(self, key: str) -> str | None:
        """A remembered text."""
        row = self._db.execute("SELECT body FROM facts WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put_fact(self, key: str, value: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (key, value))

    def load(self) -> tuple[World, list[Shock]]:
        """The world as it was at the last commit, and the shocks so far."""
        world = World()
        world.accounts = {account.address: account for account in self._all("accounts", _ACCOUNT)}
        world.agents = {agent.address: agent for agent in self._all("agents", _AGENT)}
        for key, body in self._db.execute("SELECT key, body FROM nonces"):
            world.nonces[key] = Nonces(tuple(json.loads(body)))
        for order in self._all("orders", _ORDER):
            world.index(order)
        for fill in self._all("fills", _FILL):
            world.fills[fill.user].append(fill)
        for funding in self._all("fundings", _FUNDING):
            world.fundings[funding.user].append(funding)
        for rate in self._all("rates", _RATE):
            world.rates[rate.coin].append(rate)
        for entry in self._all("ledger", _LEDGER):
            world.ledger[entry.user].append(entry)
        world.next_id = int(self.fact("next_id") or 1)
        world.next_oid = int(self.fact("next_oid") or world.next_oid)
        world.now_ms = int(self.fact("now_ms") or 0)
        world.delisted = json.loads(self.fact("delisted") or "{}")
        return world, list(self._all("shocks", _SHOCK))

    def commit(self, changes: Changes, world: World) -> None:
        """Write everything that changed in one transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            self._write(changes)
            facts: dict[str, int | str] = {"next_id": world.next_id, "next_oid": world.next_oid, "now_ms": world.now_ms}
            if world.delisted:
                facts["delisted"] = json.dumps(world.delisted)
            self._db.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", facts.items())
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def log(self, *, after: int = 0, limit: int = 1_000, kind: str | None = None) -> list[dict[str, Any]]:
        """Lines of the control log with an id above ``after``, oldest first."""
        rows = self._db.execute("SELECT body FROM log WHERE key > ? ORDER BY key", (after,))
        found = []
        for (body,) in rows:
            line = json.loads(body)
            if kind in {None, line["kind"]}:
                found.append({"id": line["id"], "at_ms": line["at_ms"], "kind": line["kind"], **line["data"]})
            if len(found) == limit:
                break
        return found

    def _write(self, changes: Changes) -> None:
        self._put("accounts", ((key, _ACCOUNT.dump_json(value)) for key, value in changes.accounts.items()))
        self._put("agents", ((key, _AGENT.dump_json(value)) for key, value in changes.agents.items()))
        self._put("nonces", ((key, json.dumps(value.used)) for key, value in changes.nonces.items()))
        self._put("orders", ((key, _ORDER.dump_json(value)) for key, value in changes.orders.items()))
        self._put("fills", ((each.id, _FILL.dump_json(each)) for each in changes.fills))
        self._put("fundings", ((each.id, _FUNDING.dump_json(each)) for each in changes.fundings))
        self._put("rates", ((each.id, _RATE.dump_json(each)) for each in changes.rates))
        self._put("ledger", ((each.id, _LEDGER.dump_json(each)) for each in changes.ledger))
        self._put("shocks", ((None, _SHOCK.dump_json(each)) for each in changes.shocks))
        self._put("log", ((each.id, _LOG.dump_json(each)) for each in changes.log))
        self._db.executemany("DELETE FROM orders WHERE key = ?", ((oid,) for oid in changes.dropped_orders))

    def _put(self, table: str, rows: Iterable[tuple[Any, Any]]) -> None:
        self._db.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", rows)  # noqa: S608 - our own names

    def _all(self, table: str, adapter: TypeAdapter[Any]) -> Iterator[Any]:
        for (body,) in self._db.execute(f"SELECT body FROM {table} ORDER BY key"):  # noqa: S608 - our own names
            yield adapter.validate_json(body)
