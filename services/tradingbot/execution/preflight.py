"""Everything that must hold before the first order, asked of the venue and of Redis, judged one by one.

Execution runs it at its start and sends nothing while a check fails; ``tradingbot preflight`` runs it without changing
anything. Leverage and margin mode are set and then read back, because a person can change them on the venue's page.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

from tradingbot.bus.library import ServerFacts
from tradingbot.domain.params import Params
from tradingbot.domain.static import Network
from tradingbot.execution import readiness as judge
from tradingbot.execution.readiness import Check, Verdict
from tradingbot.runtime.clock import Clock
from tradingbot.venue.errors import VenueError
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import Account, UserRole
from tradingbot.venue.precision import AssetSpec

SetLeverage = Callable[[AssetSpec, int, bool], Awaitable[None]]
"""Set (coin, leverage, is_cross) at the venue, with a nonce of the caller's; raises VenueError when it is refused."""

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who is about to trade what."""

    network: Network
    account: str
    signer: str | None
    """The key's address; None in DRY_RUN, which needs no key."""
    universe: tuple[str, ...]
    params: Params
    ip_weight_per_min: int
    accept_weak_durability: bool = False
    vault: str | None = None
    """The vault or sub-account that the signature names, if any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What Redis says of itself and of whose it is."""

    facts: ServerFacts
    identity_kept: str | None
    identity_ours: str


@dataclass(frozen=True, slots=True)
class Report:
    """All checks, in the order in which they were made."""

    checks: tuple[Check, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        verdicts = {check.verdict for check in self.checks}
        return next((each for each in (Verdict.FAILED, Verdict.WARNING) if each in verdicts), Verdict.OK)

    @property
    def may_trade(self) -> bool:
        """True when no check failed."""
        return self.verdict is not Verdict.FAILED

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that forbid trading."""
        return tuple(check for check in self.checks if check.verdict is Verdict.FAILED)

    def details(self) -> dict[str, Any]:
        """For an audit record or ``--json``."""
        return {
            "verdict": self.verdict.value,
            "checks": [
                {"name": check.name, "verdict": check.verdict.value, "text": check.text} for check in self.checks
            ],
        }


async def run_preflight(
    subject: Subject,
    *,
    info: InfoClient,
    clock: Clock,
    server: Server | None = None,
    set_leverage: SetLeverage | None = None,
) -> Report:
    """Make every check; a question that the venue does not answer is a failed check, never an exception.

    Args:
        subject: who is about to trade what.
        info: the venue.
        clock: virtual time.
        server: Redis, or None to leave its checks out.
        set_leverage: sets what differs; None only tells that it differs.
    """
    run = _Run(subject, info=info, clock=clock, set_leverage=set_leverage)
    if server is not None:
        run.look_at_server(server)
    run.checks.append(judge.judge_ip_budget(subject.ip_weight_per_min))
    await run.look_at_clock()
    await run.look_at_venue()
    return Report(tuple(run.checks))


class _Run:
    """One run: what was found so far."""

    def __init__(self, subject: Subject, *, info: InfoClient, clock: Clock, set_leverage: SetLeverage | None) -> None:
        self._subject = subject
        self._info = info
        self._clock = clock
        self._set_leverage = set_leverage
        self.checks: list[Check] = []

    def look_at_server(self, server: Server) -> None:
        subject = self._subject
        self.checks += [
            judge.judge_identity(server.identity_kept, server.identity_ours),
            judge.judge_durability(server.facts, network=subject.network, accept_weak=subject.accept_weak_durability),
            judge.judge_server_version(server.facts),
        ]

    async def look_at_clock(self) -> None:
        asked_ms = self._clock.now_ms()
        theirs_ms = await self._asked("clock", self._info.server_time())
        if theirs_ms is not None:
            # The answer was made about half way between question and arrival.
            skew_ms = theirs_ms - (asked_ms + self._clock.now_ms()) // 2
            self.checks.append(judge.judge_clock(skew_ms, speed=self._clock.speed))

    async def look_at_venue(self) -> None:
        subject = self._subject
        if not subject.account:
            self.checks.append(judge.warning("account", "HL_ACCOUNT_ADDRESS is not set: a DRY_RUN without an account"))
        specs = await self._asked("network", self._info.meta())
        if specs is None:
            return  # nothing else would answer either
        self.checks.append(judge.judge_universe(subject.universe, specs, subject.network))
        if not subject.account:
            return
        role, account = await self._look_at_account()
        await self._look_at_key(role)
        if account is None:
            return
        mids = await self._asked("balance", self._info.all_mids())
        if mids is not None:
            self._look_at_balance(account, specs, mids)
        for symbol in subject.universe:
            if symbol in specs and not specs[symbol].delisted:
                await self._look_at_leverage(specs[symbol])

    async def _look_at_account(self) -> tuple[UserRole | None, Account | None]:
        """What the address is, and the account: None when there is none to trade with."""
        address = self._subject.account
        role = await self._asked("account", self._info.user_role(address))
        account = await self._asked("account", self._info.clearinghouse_state(address))
        if role is None or account is None:
            return role, None
        check = judge.judge_account_address(account, role, address)
        self.checks.append(check)
        mode = await self._asked("account_mode", self._info.user_abstraction(address))
        if mode is not None:
            self.checks.append(judge.judge_account_mode(mode))
        limit = await self._asked("action_budget", self._info.user_rate_limit(address))
        if limit is not None:
            self.checks.append(judge.judge_action_budget(limit, self._subject.params))
        return role, None if check.verdict is Verdict.FAILED else account

    async def _look_at_key(self, owner: UserRole | None) -> None:
        subject = self._subject
        if subject.signer is None:
            self.checks.append(judge.ok("key", "DRY_RUN: no key is needed and nothing is sent"))
            return
        role = await self._asked("key", self._info.user_role(subject.signer))
        if role is None:
            return
        if subject.vault is None:
            check = judge.judge_key(role, signer=subject.signer, account=subject.account, network=subject.network)
        elif owner is None:
            return  # that the venue did not tell is a failed check already
        else:
            check = judge.judge_vault_key(
                role,
                owner,
                signer=subject.signer,
                account=subject.account,
                vault=subject.vault,
                network=subject.network,
            )
        self.checks.append(check)
        if role.role != "agent" or check.verdict is Verdict.FAILED:
            return
        agents = await self._asked("key_expiry", self._info.extra_agents(role.master or subject.account))
        if agents is not None:
            now_ms = self._clock.now_ms()
            self.checks.append(
                judge.judge_key_expiry(agents, signer=subject.signer, now_ms=now_ms, network=subject.network)
            )

    def _look_at_balance(self, account: Account, specs: Any, mids: dict[str, Decimal]) -> None:
        subject = self._subject
        self.checks.append(
            judge.judge_balance(account, subject.params, specs=specs, mids=mids, universe=subject.universe)
        )

    async def _look_at_leverage(self, spec: AssetSpec) -> None:
        subject, name = self._subject, f"leverage:{spec.symbol}"
        asset = await self._asked(name, self._info.active_asset_data(subject.account, spec.symbol))
        if asset is None:
            return
        refusal = ""
        apply = self._set_leverage is not None and subject.signer is not None
        if apply and self._set_leverage and judge.needs_setting(asset, subject.params, spec):
            try:
                await self._set_leverage(spec, judge.wanted_leverage(subject.params, spec), not spec.only_isolated)
            except VenueError as error:
                refusal = str(error)
            asset = await self._asked(name, self._info.active_asset_data(subject.account, spec.symbol))
            if asset is None:
                return
        self.checks.append(judge.judge_leverage(asset, subject.params, spec, refusal=refusal, apply=apply))

    async def _asked(self, name: str, question: Awaitable[AnswerT]) -> AnswerT | None:
        """The answer, or None and a failed check."""
        try:
            return await question
        except VenueError as error:
            self.checks.append(judge.failed(name, f"the venue did not answer: {error}; try again"))
            return None
