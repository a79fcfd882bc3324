"""The exchange itself: time moves the market, requests are admitted or refused, everything is recorded.

No I/O, no clock and no dice: ``advance`` and ``submit`` are told the time, and what must reach the disk is collected
in the world's changes. The server calls ``advance`` before every request, so an answer never shows a stale market.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tradingbot.domain.errors import Permanent
from tradingbot.paper.accounts import Account, Agent
from tradingbot.paper.actions import Request, UserSigned, canonical, cloids, entries
from tradingbot.paper.admission import Admission, Refused
from tradingbot.paper.assets import Asset, Universe
from tradingbot.paper.decimals import ZERO, usd
from tradingbot.paper.desk import Desk, Invalid
from tradingbot.paper.funding import average_premium, hourly_rate, hours_between, stamp_ms
from tradingbot.paper.handlers import Handlers
from tradingbot.paper.liquidation import Liquidator
from tradingbot.paper.market import Market
from tradingbot.paper.options import PaperOptions, PreValidation
from tradingbot.paper.orders import Order, Status
from tradingbot.paper.trading import Trading
from tradingbot.paper.world import Funding, FundingRate, World

MAX_STEPS = 10_000
"""Of one call of ``advance``: a gap of hours, after the exchange was down, is crossed in longer steps."""
DAY_MS = 86_400_000
SCHEDULED_CANCELS_A_DAY = 10


class UnknownMaster(Permanent):
    """An agent of the options has no account to act for."""


class Engine:
    """One venue."""

    def __init__(self, *, world: World, market: Market, universe: Universe, options: PaperOptions) -> None:
        self.world = world
        self.market = market
        self.universe = universe
        self.options = options
        self.trading = Trading(world, market, universe)
        self.desk = Desk(world=world, trading=self.trading, universe=universe, options=options)
        self._liquidator = Liquidator(world=world, trading=self.trading, universe=universe)
        self._admission = Admission(world)
        self._handlers = Handlers(world=world, desk=self.desk, trading=self.trading, universe=universe, options=options)

    def open_accounts(self, now_ms: int) -> None:
        """Fund the accounts of the options that are new, and let their agents sign."""
        for address in self.options.accounts:
            if address.lower() not in self.world.accounts:
                self.deposit(address.lower(), self.options.start_equity_usd, now_ms)
        for text in self.options.agents:
            address, _, master = text.lower().partition(":")
            if not master and not self.options.accounts:
                raise UnknownMaster(f"agent {address}: name its account, as {address}:ACCOUNT")
            master = master or self.options.accounts[0].lower()
            if address not in self.world.agents:
                agent = Agent(
                    address=address, master=master, name=f"option {len(self.world.agents)}", valid_until_ms=None
                )
                self.world.put_agent(agent)
        if not self.world.now_ms:
            self.world.now_ms = now_ms

    def deposit(self, address: str, amount: Decimal, now_ms: int) -> None:
        """Add USD to an account (negative: take away), opening it when it is new."""
        account = self.world.accounts.get(address) or Account(address=address, raw_usd=ZERO)
        account.raw_usd += amount
        self.world.touch(account)
        kind: dict[str, Any] = {"type": "deposit", "usdc": usd(amount)}
        if amount < 0:
            kind = {"type": "withdraw", "usdc": usd(-amount), "nonce": now_ms, "fee": "0.0"}
        self.world.add_ledger(address, now_ms, kind)

    def advance(self, now_ms: int) -> None:
        """Move the market in ticks up to now; time never runs backwards."""
        tick = max(self.options.tick_ms, (now_ms - self.world.now_ms) // MAX_STEPS)
        while (next_ms := self.world.now_ms - self.world.now_ms % tick + tick) <= now_ms:
            self._step(next_ms)
        self.world.now_ms = max(self.world.now_ms, now_ms)

    def settle(self, now_ms: int) -> None:
        """Let what has just changed by hand take effect at once: matches, triggers, liquidations."""
        self.trading.match_resting(now_ms)
        self.trading.wake_triggers(now_ms)
        self._liquidator.watch(now_ms)

    def delist(self, coin: str, now_ms: int) -> None:
        """Take a coin out of trading from now on.

        Raises:
            KeyError: a coin that is not traded.
        """
        if coin not in {asset.name for asset in self.universe.traded}:
            raise KeyError(coin)
        self.universe.delist(coin)
        self.world.delisted[coin] = now_ms
        self.world.log("delisting", now_ms, {"coin": coin})
        for order in self.world.open_orders(coin=coin):
            if self.world.orders[order.oid].is_open:
                self.trading.end(order, Status.DELISTED_CANCELED, now_ms)

    def open_by_hand(self, account: Account, asset: Asset, signed_sz: Decimal, now_ms: int) -> None:
        """Fill ``signed_sz`` at the mark outside the book, without an order of anyone's.

        Raises:
            KeyError: the coin has no price now.
        """
        mark = self.trading.marks(now_ms)[asset.name]
        oid = self.world.new_oid()
        order = Order(
            oid=oid,
            user=account.address,
            coin=asset.name,
            is_buy=signed_sz > 0,
            limit_px=mark,
            sz=abs(signed_sz),
            orig_sz=abs(signed_sz),
            tif="Ioc",
            reduce_only=False,
            cloid=None,
            placed_ms=now_ms,
            status=Status.OPEN,
            status_ms=now_ms,
            visible_ms=now_ms,
        )
        self.world.put_order(self.trading.book_off(order, px=mark, now_ms=now_ms), note="by hand")

    def submit(self, request: Request, *, signer: str | None, now_ms: int) -> dict[str, Any]:
        """Answer a request to ``/exchange``; the body of a 200."""
        try:
            user = self._admission.admit(request, signer=signer, now_ms=now_ms)
        except Refused as refused:
            self._log(request, signer=signer, user=None, verdict=refused.text, answer=None, now_ms=now_ms)
            return {"status": "err", "response": refused.text}
        answer = self._carry_out(user, request, now_ms)
        self._admission.charge(user, request, accepted=answer["status"] == "ok")
        verdict = "ok" if answer["status"] == "ok" else answer["response"]
        self._log(request, signer=signer, user=user, verdict=verdict, answer=answer, now_ms=now_ms)
        return answer

    def _carry_out(self, user: str, request: Request, now_ms: int) -> dict[str, Any]:
        try:
            return self._handlers.handle(user, request, now_ms)
        except Invalid as invalid:
            if self.options.quirks.prevalidation is PreValidation.ERR:
                return {"status": "err", "response": str(invalid)}
            return {"status": "ok", "response": {"type": "order", "data": {"statuses": [{"error": str(invalid)}]}}}
        except Refused as refused:
            return {"status": "err", "response": refused.text}

    def _log(
        self,
        request: Request,
        *,
        signer: str | None,
        user: str | None,
        verdict: str,
        answer: dict[str, Any] | None,
        now_ms: int,
    ) -> None:
        entry = {
            "signer": signer,
            "user": user,
            "admitted": user is not None,
            "nonce": request.nonce,
            "expiresAfter": request.expires_after,
            "type": request.action.type,
            "entries": entries(request.action),
            "cloids": list(cloids(request.action)),
            "verdict": verdict,
            "action": None if isinstance(request.action, UserSigned) else canonical(request.action),
            "answer": answer,
        }
        self.world.log("action", now_ms, entry)

    def _step(self, now_ms: int) -> None:
        before_ms, self.world.now_ms = self.world.now_ms, now_ms
        self.trading.match_resting(now_ms)
        self.trading.wake_triggers(now_ms)
        for hour_ms in hours_between(before_ms, now_ms):
            self._pay_funding(hour_ms)
        self._fire_scheduled_cancels(now_ms)
        self._liquidator.watch(now_ms)

    def _pay_funding(self, hour_ms: int) -> None:
        at_ms = stamp_ms(hour_ms)
        for asset in self.universe.traded:
            oracle = self.market.oracle(asset.name, hour_ms)
            if oracle is None:
                continue
            premium = average_premium(self.market, asset.name, hour_ms)
            rate = hourly_rate(premium)
            self.world.add_rate(
                FundingRate(id=self.world.new_id(), coin=asset.name, rate=rate, premium=premium, at_ms=at_ms)
            )
            for account in self.world.accounts.values():
                position = account.positions.get(asset.name)
                if position is None:
                    continue
                paid = position.szi * oracle * rate
                account.positions[asset.name] = position.paid_funding(paid)
                if position.isolated_raw_usd is None:
                    account.raw_usd -= paid
                self.world.touch(account)
                self.world.add_funding(
                    Funding(
                        id=self.world.new_id(),
                        user=account.address,
                        coin=asset.name,
                        usdc=-paid,
                        szi=position.szi,
                        rate=rate,
                        at_ms=at_ms,
                    )
                )

    def _fire_scheduled_cancels(self, now_ms: int) -> None:
        for account in self.world.accounts.values():
            due_ms = account.scheduled_cancel_ms
            if due_ms is None or due_ms > now_ms:
                continue
            account.scheduled_cancel_ms = None
            today = now_ms // DAY_MS
            if account.scheduled_cancel_day != today:
                account.scheduled_cancel_day, account.scheduled_cancels = today, 0
            self.world.touch(account)
            if account.scheduled_cancels >= SCHEDULED_CANCELS_A_DAY:
                continue
            account.scheduled_cancels += 1
            for order in self.world.open_orders(user=account.address):
                self.trading.end(order, Status.SCHEDULED_CANCEL, now_ms)
