"""What each kind of action does, and its answer."""

from __future__ import annotations

import re
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tradingbot.paper.accounts import Account, Agent, Leverage
from tradingbot.paper.actions import (
    ApproveAgent,
    BatchModify,
    Cancel,
    CancelByCloid,
    Modify,
    Noop,
    Order,
    Priority,
    Request,
    ScheduleCancel,
    UpdateIsolatedMargin,
    UpdateLeverage,
    UsdSend,
    Withdraw,
)
from tradingbot.paper.admission import Refused
from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.decimals import ZERO, usd
from tradingbot.paper.desk import Desk, StatusEntry
from tradingbot.paper.margin import leverage_of, summary, withdrawable
from tradingbot.paper.options import PaperOptions
from tradingbot.paper.trading import Trading
from tradingbot.paper.world import World

DAY_MS = 86_400_000
EARLIEST_SCHEDULE_MS = 5_000
AGENT_LIFE_MS = 90 * DAY_MS
AGENT_LONGEST_MS = 180 * DAY_MS
NAMED_AGENTS = 3
AGENT_NAME_LENGTH = 16
ZERO_ADDRESS = "0x" + "0" * 40
WITHDRAW_FEE_USD = Decimal(1)
_VALID_UNTIL = re.compile(r"^(.*?) ?valid_until (\d+)$")

DONE: dict[str, Any] = {"status": "ok", "response": {"type": "default"}}


class Handlers:
    """Carries out admitted actions."""

    def __init__(
        self, *, world: World, desk: Desk, trading: Trading, universe: Universe, options: PaperOptions
    ) -> None:
        self._world = world
        self._desk = desk
        self._trading = trading
        self._universe = universe
        self._options = options

    def handle(self, user: str, request: Request, now_ms: int) -> dict[str, Any]:
        """Do what the action says.

        Raises:
            Refused: the action as a whole is refused.
            Invalid: a batch of orders is malformed.
        """
        match request.action:
            case Order() as action:
                grouping = "na" if isinstance(action.grouping, Priority) else action.grouping
                return _statuses("order", self._desk.place(user, action.orders, grouping=grouping, now_ms=now_ms))
            case Cancel() as action:
                return _statuses("cancel", [self._cancel(user, each.a, each.o, now_ms) for each in action.cancels])
            case CancelByCloid() as action:
                return _statuses(
                    "cancel", [self._cancel(user, each.asset, each.cloid, now_ms) for each in action.cancels]
                )
            case BatchModify() as action:
                return _statuses("order", self._desk.modify(user, action, now_ms))
            case Modify() as action:
                return self._modify(user, action, now_ms)
            case _:
                return self._handle_other(self._world.accounts[user], request, now_ms)

    def _handle_other(self, account: Account, request: Request, now_ms: int) -> dict[str, Any]:
        match request.action:
            case ScheduleCancel() as action:
                self._schedule_cancel(account, action, now_ms)
            case UpdateLeverage() as action:
                self._update_leverage(account, action, now_ms)
            case UpdateIsolatedMargin() as action:
                self._update_isolated_margin(account, action)
            case ApproveAgent() as action:
                self._approve_agent(account, action, now_ms)
            case UsdSend() | Withdraw() as action:
                self._pay_out(account, action, now_ms)
            case Noop():
                pass
            case _:
                raise AssertionError(f"no handler for {request.action.type}")
        return DONE

    def _cancel(self, user: str, asset_index: int, key: int | str, now_ms: int) -> StatusEntry:
        return self._desk.cancel(user, asset_index=asset_index, key=key, now_ms=now_ms)

    def _modify(self, user: str, action: Modify, now_ms: int) -> dict[str, Any]:
        (status,) = self._desk.modify(user, action, now_ms)
        if isinstance(status, dict) and "error" in status:
            raise Refused(status["error"])
        return DONE

    def _schedule_cancel(self, account: Account, action: ScheduleCancel, now_ms: int) -> None:
        required = self._options.schedule_cancel_volume_usd
        if account.volume_usd < required:
            raise Refused(
                "Cannot set scheduled cancel time until enough volume traded. "
                f"Required: ${required}. Traded: ${account.volume_usd.normalize():f}."
            )
        if action.time is not None and action.time < now_ms + EARLIEST_SCHEDULE_MS:
            raise Refused("Scheduled cancel time too early, must be at least 5 seconds from now.")
        account.scheduled_cancel_ms = action.time
        self._world.touch(account)

    def _update_leverage(self, account: Account, action: UpdateLeverage, now_ms: int) -> None:
        asset = self._asset(action.asset)
        if not 1 <= action.leverage <= asset.max_leverage:
            raise Refused("Invalid leverage value")
        position = account.positions.get(asset.name)
        if position is not None:
            is_cross = position.isolated_raw_usd is None
            if is_cross != action.is_cross:
                raise Refused("Cannot switch leverage type with open position.")
            if action.leverage < leverage_of(account, asset).value:
                self._check_decrease(account, asset, action, now_ms)
        account.leverages[asset.name] = Leverage(action.leverage, action.is_cross)
        self._world.touch(account)

    def _check_decrease(self, account: Account, asset: Asset, action: UpdateLeverage, now_ms: int) -> None:
        marks = self._trading.marks(now_ms)
        position = account.positions[asset.name]
        ntl = abs(position.szi) * marks[asset.name]
        cross = summary(account, self._universe, marks, cross_only=True)
        free = cross.account_value - cross.margin_used
        if position.isolated_raw_usd is not None:
            if position.isolated_raw_usd + position.szi * marks[asset.name] < ntl / action.leverage:
                raise Refused("Isolated position does not have sufficient margin available to decrease leverage.")
            return
        if ntl / action.leverage - ntl / leverage_of(account, asset).value > free:
            raise Refused("Cross position does not have sufficient margin available to decrease leverage")

    def _update_isolated_margin(self, account: Account, action: UpdateIsolatedMargin) -> None:
        asset = self._asset(action.asset)
        position = account.positions.get(asset.name)
        if position is None or position.isolated_raw_usd is None:
            raise Refused("No isolated position to update margin of.")
        amount = Decimal(action.ntli).scaleb(-6)
        if amount > account.raw_usd:
            raise Refused("Insufficient margin available.")
        account.raw_usd -= amount
        account.positions[asset.name] = replace(position, isolated_raw_usd=position.isolated_raw_usd + amount)
        self._world.touch(account)

    def _asset(self, index: int) -> Asset:
        asset = self._universe.get(index)
        if asset is None:
            raise Refused(f"Invalid asset {index}")
        return asset

    def _approve_agent(self, account: Account, action: ApproveAgent, now_ms: int) -> None:
        name, valid_until_ms = _agent_terms(action.agent_name or "", now_ms)
        known = self._world.agents.get(action.agent_address)
        if known is not None or action.agent_address in self._world.accounts:
            raise Refused("Extra agent already used.")
        live = [a for a in self._world.agents.values() if a.master == account.address and a.may_sign(now_ms)]
        replaced = [agent for agent in live if agent.name == name]
        others = [agent for agent in live if agent.name and agent.name != name]
        removes = action.agent_address == ZERO_ADDRESS
        if name and not removes and len(others) >= NAMED_AGENTS:
            raise Refused("Too many extra agents for cumulative volume traded.")
        for agent in replaced:
            self._world.put_agent(replace(agent, removed_ms=now_ms))
        if not removes:
            agent = Agent(
                address=action.agent_address, master=account.address, name=name, valid_until_ms=valid_until_ms
            )
            self._world.put_agent(agent)

    def _pay_out(self, account: Account, action: UsdSend | Withdraw, now_ms: int) -> None:
        amount = Decimal(action.amount)
        marks = self._trading.marks(now_ms)
        available = withdrawable(summary(account, self._universe, marks, cross_only=True))
        if amount <= 0 or amount > available:
            raise Refused("Insufficient balance for withdrawal")
        destination = action.destination.lower()
        account.raw_usd -= amount
        self._world.touch(account)
        if isinstance(action, Withdraw):
            delta = {"type": "withdraw", "usdc": usd(amount - WITHDRAW_FEE_USD), "nonce": action.time, "fee": "1.0"}
            self._world.add_ledger(account.address, now_ms, delta)
            return
        receiver = self._world.accounts.get(destination) or Account(address=destination, raw_usd=ZERO)
        receiver.raw_usd += amount
        self._world.touch(receiver)
        delta = {
            "type": "internalTransfer",
            "usdc": usd(amount),
            "user": account.address,
            "destination": destination,
            "fee": "0.0",
        }
        self._world.add_ledger(account.address, now_ms, delta)
        self._world.add_ledger(destination, now_ms, delta)


def _statuses(kind: str, statuses: list[StatusEntry]) -> dict[str, Any]:
    return {"status": "ok", "response": {"type": kind, "data": {"statuses": statuses}}}


def _agent_terms(name: str, now_ms: int) -> tuple[str, int]:
    """An agent's name and expiry; ``NAME valid_until MS`` sets the expiry."""
    valid_until_ms = now_ms + AGENT_LIFE_MS
    if (found := _VALID_UNTIL.match(name)) is not None:
        name, valid_until_ms = found[1], min(int(found[2]), now_ms + AGENT_LONGEST_MS)
    if valid_until_ms <= now_ms:
        raise Refused("Agent valid_until already expired.")
    if len(name) > AGENT_NAME_LENGTH:
        raise Refused("Agent name too long.")
    return name, valid_until_ms
