"""``tradingbot up``: decide, start, watch, and stop cleanly."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from tradingbot.domain.cycles import start_ms_of
from tradingbot.domain.errors import TradingBotError
from tradingbot.domain.static import Network, PriceLabel, StaticSettings
from tradingbot.local.account import make_agent
from tradingbot.local.board import Board
from tradingbot.local.bot import BotPlan, LocalBot
from tradingbot.local.environment import base_environment, check_environment, warnings
from tradingbot.local.folder import DataFolder, FolderError, Identity
from tradingbot.local.plan import (
    PlanError,
    Prices,
    UpOptions,
    check_recording_end,
    choose_anchor,
    choose_prices,
    static_settings,
)
from tradingbot.local.span import recorded_span
from tradingbot.local.view import Facts, View, make_view
from tradingbot.local.watch import Watcher
from tradingbot.replay.evidence import Evidence, collect
from tradingbot.replay.report import Report, write_report
from tradingbot.replay.rest import wait_for_rest
from tradingbot.replay.verify import judge
from tradingbot.runtime.clock import Ids, SystemClock
from tradingbot.runtime.process import ExitCode
from tradingbot.runtime.settings import load_params
from tradingbot.venue.network import urls

_LOOK_S = 0.2
_NOTE_EVERY = 5
"""Looks between two notes of the clock: one real second."""
_LEAVE_WITHIN_S = 15.0
"""Children of a killed supervisor have ended within this, real seconds."""
_SPARE_CYCLES = 5
_SPARE_REAL_S = 120.0
_REST_BEFORE_CYCLE_END_MS = 2_500
"""Every slice of a cycle has ended 3 s before the cycle does."""


async def up(options: UpOptions, *, given: Mapping[str, str], machine: Mapping[str, str], console: Console) -> ExitCode:
    """Run a bot on this machine until Ctrl-C, or until ``options.cycles`` cycles have happened.

    Raises:
        SettingsError, PlanError, FolderError: it cannot be run as asked.
    """
    check_environment(given)
    static = static_settings({**given, **({"DRY_RUN": "true"} if options.dry_run else {})})
    prices = await _prices(options, static)
    default = Path("data") / (prices.folder_name if static.hl_network is Network.PAPER else static.hl_network.value)
    folder = DataFolder.make(options.data_dir or default)
    await _until_left(folder)
    with folder.locked():
        plan = await _plan(options, static=static, prices=prices, folder=folder, given=given, machine=machine)
        for each in warnings(given):
            console.print(f"warning: {each}", style="yellow", highlight=False, markup=False, soft_wrap=True)
        if prices.why:
            console.print(prices.why, highlight=False, markup=False, soft_wrap=True)
        return await _Run(options, plan, console=console).run()


async def _until_left(folder: DataFolder) -> None:
    """Let the children of a killed supervisor end first; what still holds the folder then is told by its lock."""
    clock = SystemClock()
    until_s = clock.real_s() + _LEAVE_WITHIN_S
    while folder.abandoned() and clock.real_s() < until_s:
        await clock.sleep_real(_LOOK_S)


async def _prices(options: UpOptions, static: StaticSettings) -> Prices:
    live_answers = False
    if options.prices in {"auto", "live"} and options.speed == 1 and static.hl_network is Network.PAPER:
        from tradingbot.paper.prices import probe_live  # noqa: PLC0415 - only where it is asked

        live_answers = await probe_live()
    return choose_prices(
        asked=options.prices, network=static.hl_network, live_answers=live_answers, speed=options.speed
    )


async def _plan(
    options: UpOptions,
    *,
    static: StaticSettings,
    prices: Prices,
    folder: DataFolder,
    given: Mapping[str, str],
    machine: Mapping[str, str],
) -> BotPlan:
    identity = await _identity(folder, static=static, prices=prices, given=given, machine=machine)
    span = None
    if prices.label is PriceLabel.RECORDED:
        span = await recorded_span(prices.spec, symbols=static.universe, environ=base_environment(machine))
    anchor = choose_anchor(
        label=prices.label,
        speed=options.speed,
        cycle_seconds=static.cycle_seconds,
        now_ms=SystemClock().now_ms(),
        resume_ms=folder.resume_ms(),
        span=span,
    )
    check_recording_end(span=span, anchor=anchor, cycles=options.cycles, cycle_seconds=static.cycle_seconds)
    return BotPlan(
        folder=folder,
        identity=identity,
        prices=prices,
        anchor=anchor,
        static=static,
        params=load_params(given),
        given=given,
        machine=machine,
        ends_ms=span[1] if span else None,
        record=options.record,
    )


async def _identity(
    folder: DataFolder,
    *,
    static: StaticSettings,
    prices: Prices,
    given: Mapping[str, str],
    machine: Mapping[str, str],
) -> Identity:
    present = folder.identity()
    account, agent = (present.account, present.agent) if present else ("", None)
    if static.hl_network is not Network.PAPER:
        if static.hl_account_address is None:
            raise PlanError(f"HL_ACCOUNT_ADDRESS: not set; HL_NETWORK={static.hl_network} needs the account's address")
        account = static.hl_account_address
        if present is not None and present.account != account:
            raise FolderError(f"{folder.path}: belongs to the account {present.account}, not {account}")
    elif present is None:
        account, agent = await make_agent(folder.agent_key, environ=base_environment(machine))
    bot_id = present.bot_id if present else given.get("BOT_ID") or Ids().uuid()
    wanted = Identity(
        bot_id=bot_id,
        network=static.hl_network,
        account=account,
        agent=agent,
        prices=prices.spec,
        label=prices.label,
    )
    return folder.claim(wanted)


class _Run:
    """One run, from the first process to the last."""

    def __init__(self, options: UpOptions, plan: BotPlan, *, console: Console) -> None:
        self._options = options
        self._plan = plan
        self._clock = SystemClock(plan.anchor)
        self._stop = asyncio.Event()
        self._view: View = make_view(console)
        self._board = Board(cycle_seconds=plan.static.cycle_seconds)
        self._bot = LocalBot(plan, clock=self._clock, tell=self._tell)
        self._watcher = Watcher(self._bot.redis, self._board)
        self._facts = Facts(
            monitor_url=self._bot.monitor_url,
            data_dir=str(plan.folder.path),
            network=plan.static.hl_network.value,
            prices=plan.prices.label.value,
            speed=plan.anchor.speed,
            dry_run=plan.static.dry_run,
            wanted_cycles=options.cycles,
        )
        self._started_s = self._clock.real_s()
        self._first_fill_s: float | None = None

    async def run(self) -> ExitCode:
        with _interrupts_set(self._stop), self._view:
            try:
                await self._bot.start()
                self._view.say(f"monitor {self._bot.monitor_url}  data {self._plan.folder.path}  Ctrl-C stops cleanly")
                code = await self._watch()
            except TradingBotError as error:
                self._view.say(str(error))
                code = ExitCode.FAILED
            finally:
                self._view.say("stopping: open orders are cancelled, state is kept")
                await self._bot.stop()
        self._view.say("stopped")
        return code

    async def _watch(self) -> ExitCode:
        await self._watcher.begin()
        looks, deadline_s = 0, self._deadline_s()
        while not self._stop.is_set():
            await self._look()
            self._bot.note_changes()
            looks += 1
            if looks % _NOTE_EVERY == 0:
                self._bot.note_clock()
            if self._bot.children.refused.is_set():
                return ExitCode.REFUSED
            if self._options.cycles is not None and self._board.happened >= self._options.cycles:
                return await self._finish()
            if deadline_s is not None and self._clock.real_s() > deadline_s:
                self._view.say(f"only {self._board.happened} of {self._options.cycles} cycles happened in time")
                await self._finish()
                return ExitCode.FAILED
            if self._plan.ends_ms is not None and self._clock.now_ms() >= self._plan.ends_ms:
                self._view.say("the recording has been played to its end")
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), timeout=_LOOK_S)
        return ExitCode.FAILED if self._options.cycles is not None else ExitCode.DONE

    async def _look(self, *, ended: bool = False) -> None:
        answered = await self._watcher.look()
        self._facts.now_ms = self._clock.now_ms()
        mode = self._watcher.mode
        if mode is not None:
            self._facts.mode, self._facts.mode_reason = mode.mode, mode.reason
        if not answered:
            self._facts.mode_reason = "the bus does not answer"
        if self._first_fill_s is None and self._board.first_fill:
            self._first_fill_s = round(self._clock.real_s() - self._started_s, 1)
            self._view.say(f"first fill {self._first_fill_s:g} s after the start")
        self._view.show(self._board, self._facts, ended=ended)

    def _deadline_s(self) -> float | None:
        if self._options.cycles is None:
            return None
        cycle_s = self._plan.static.cycle_seconds / self._clock.speed
        return self._clock.real_s() + (self._options.cycles + _SPARE_CYCLES) * cycle_s + _SPARE_REAL_S

    async def _finish(self) -> ExitCode:
        """Come to rest, check the invariants, write the report."""
        await self._come_to_rest()
        await self._look(ended=True)
        evidence = await self._evidence()
        report = Report.of(
            evidence,
            verdicts=judge(evidence),
            wanted_cycles=self._options.cycles,
            happened=self._board.happened,
            restarts=self._bot.children.restarts(),
            real_s=self._clock.real_s() - self._started_s,
            first_fill_s=self._first_fill_s,
        )
        for line in report.lines():
            self._view.say(line)
        if self._options.report is not None:
            write_report(report, self._options.report)
        if self._options.print_json:
            sys.stdout.write(report.model_dump_json(indent=2) + "\n")
        return ExitCode.DONE if report.holds else ExitCode.FAILED

    async def _come_to_rest(self) -> None:
        """Let the last cycle end, start no other, and wait until nothing moves."""
        last = max((row.cycle_id for row in self._board.rows if row.happened), default=None)
        if last is not None:
            cycle_end_ms = start_ms_of(last) + self._plan.static.cycle_seconds * 1000
            await self._clock.sleep_until_ms(cycle_end_ms - _REST_BEFORE_CYCLE_END_MS)
        await self._bot.children.stop("market_data")
        if moving := await wait_for_rest(self._bot.redis, clock=self._clock):
            self._view.say(f"did not come to rest: {moving}")

    async def _evidence(self) -> Evidence:
        static, paper = self._plan.static, self._bot.venue_urls
        own = urls(static.hl_network, static.hl_http_url, static.hl_ws_url)
        return await collect(
            self._bot.redis,
            clock=self._clock,
            venue_url=paper[0] if paper else own.http_url,
            is_paper=paper is not None,
            bot_id=self._plan.identity.bot_id,
            account=self._plan.identity.account,
            static=static,
            folder=self._plan.folder.path,
            pids=self._bot.children.pids(),
        )

    def _tell(self, part: str, what: str) -> None:
        self._facts.notes.append(f"{part} {what}")
        self._view.say(f"{part} {what}")


@contextlib.contextmanager
def _interrupts_set(stop: asyncio.Event) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    try:
        yield
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)
