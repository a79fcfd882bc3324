"""The preflight as execution runs it at its start: nothing is placed before it has passed.

It is made again until it passes, because most of its cures (a deposit, an approved key, a synchronised clock) need no
restart. In DRY_RUN it is made and told, and stops nothing: nothing is sent anyway.
"""

from __future__ import annotations

import json
from typing import Any

from redis.asyncio import Redis

from tradingbot.bus.buckets import read_share
from tradingbot.bus.commit import ActionStamp, HashPut
from tradingbot.bus.errors import BusUnavailable, bus_errors
from tradingbot.bus.library import check_server
from tradingbot.bus.names import Key
from tradingbot.bus.params import read_params
from tradingbot.bus.session import BusSession
from tradingbot.domain.messages import AuditLevel, AuditRecord
from tradingbot.domain.params import Params
from tradingbot.execution.gate import Gate
from tradingbot.execution.preflight import Report, Server, Subject, run_preflight
from tradingbot.execution.readiness import Verdict
from tradingbot.execution.settings import ExecutionSettings
from tradingbot.execution.venue_link import VenueLink
from tradingbot.venue.precision import AssetSpec
from tradingbot.venue.wire import update_leverage_action

STOP = "preflight"
RETRY_S = 15.0
"""Real seconds between tries while a check fails; a try costs about 300 of the address's weight."""
PARAMS_RETRY_S = 0.2
_LEVELS = {Verdict.OK: AuditLevel.INFO, Verdict.WARNING: AuditLevel.WARNING, Verdict.FAILED: AuditLevel.ERROR}


class PreflightTask:
    """Holds the gate until every check has passed once in this process."""

    def __init__(self, *, bus: BusSession, venue: VenueLink, gate: Gate, settings: ExecutionSettings) -> None:
        self._bus = bus
        self._venue = venue
        self._gate = gate
        self._settings = settings
        self.report: Report | None = None
        """The last one; None until the first is made."""
        if not settings.dry_run:
            gate.stop(STOP, "the preflight is not made yet")

    @property
    def passed(self) -> bool:
        """True when the last report allows trading."""
        return self.report is not None and self.report.may_trade

    async def run(self) -> None:
        """Until it passes; returns at once when it has.

        Raises:
            BusError: Redis or the lease is lost.
        """
        while not self.passed:
            self.report = await self._check(await self._params())
            await self._tell(self.report)
            if self.passed or self._settings.dry_run:
                self._gate.lift(STOP)
                return
            self._gate.stop(STOP, "; ".join(f"{each.name}: {each.text}" for each in self.report.failures))
            await self._bus.clock.sleep_real(RETRY_S)

    async def _params(self) -> Params:
        """The parameters in force; nobody trades before they are there."""
        while (found := await read_params(self._bus.redis)) is None:
            await self._bus.clock.sleep_real(PARAMS_RETRY_S)
        return found.params

    async def _check(self, params: Params) -> Report:
        signer = self._venue.signer.address if self._venue.signer else None
        share = await read_share(self._bus.redis)
        return await run_preflight(
            subject_of(self._settings, params, signer=signer, share=share),
            info=self._venue.info,
            clock=self._bus.clock,
            server=await server_of(self._bus.redis, self._settings),
            set_leverage=self._set_leverage if self._venue.signer else None,
        )

    async def _set_leverage(self, spec: AssetSpec, leverage: int, is_cross: bool) -> None:  # noqa: FBT001 - SetLeverage
        """Set it, with a nonce that Redis fixes as it does for every action."""
        assert self._venue.signer is not None
        action = update_leverage_action(spec.asset_id, is_cross=is_cross, leverage=leverage)
        action_id = f"leverage:{spec.symbol}:{self._bus.ids.uuid()}"
        stamp = ActionStamp(
            action_id=action_id,
            ttl_ms=None,
            fields={"kind": "updateLeverage", "symbol": spec.symbol},
            min_nonce=self._venue.min_nonce,
        )
        result = await self._bus.commit(commit_id=action_id, action=stamp)
        if not result.done or result.nonce is None:
            raise BusUnavailable(f"no nonce for {action_id}: {result.verdict} {result.detail}")
        self._venue.used(result.nonce)
        await self._venue.exchange.send(self._venue.signer.sign(action, nonce=result.nonce, expires_after_ms=None))

    async def _tell(self, report: Report) -> None:
        log = self._bus.process.log
        (log.info if report.may_trade else log.error)("preflight", **report.details())
        record = AuditRecord(kind=STOP, level=_LEVELS[report.verdict], cause="start", details=report.details())
        await self._bus.commit(
            commit_id=f"preflight:{self._bus.ids.uuid()}",
            adds=(self._bus.audit(record, cycle_id=self._bus.cycle_id()),),
            writes=(self._latest(report),),
        )

    def _latest(self, report: Report) -> HashPut:
        """The last report where whoever asks finds it without searching the log."""
        details = report.details()
        fields = {
            "verdict": report.verdict.value,
            "at_ms": str(self._bus.clock.now_ms()),
            "checks": json.dumps(details["checks"]),
        }
        return HashPut(Key.LATEST_PREFLIGHT, fields)


def subject_of(settings: ExecutionSettings, params: Params, *, signer: str | None, share: int | None = None) -> Subject:
    """Who is about to trade what, from the settings; ``share`` is what is left of the weight when bots share it."""
    return Subject(
        network=settings.hl_network,
        account=settings.hl_account_address or "",
        signer=signer,
        universe=settings.universe,
        params=params,
        ip_weight_per_min=share or settings.ip_weight_per_min,
        accept_weak_durability=settings.redis_accept_weak_durability,
        vault=settings.hl_vault_address,
    )


async def server_of(redis: Redis, settings: ExecutionSettings) -> Server:
    """What Redis says of itself and of whose it is.

    Raises:
        BusError: Redis does not answer.
    """
    facts = await check_server(redis)
    with bus_errors():
        kept: Any = await redis.get(Key.IDENTITY)
    ours = {
        "bot_id": settings.bot_id,
        "network": settings.hl_network.value,
        "account": (settings.hl_account_address or "").lower(),
    }
    return Server(facts=facts, identity_kept=kept, identity_ours=json.dumps(ours, sort_keys=True))
