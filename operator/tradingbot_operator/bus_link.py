"""The Redis side of one bot: what the operator writes there, what it reads, and how it hears of changes.

A link connects when it is used. One of a bot that runs keeps a blocking read of ctl.commands, where the breaker's
changes arrive; while something is not acknowledged it looks at ctl.applied ten times a second. A link of a bot that
does not run holds nothing but a connection that is closed when it has been idle, so that a thousand of them cost next
to nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from tradingbot.bus import library
from tradingbot.bus.buckets import write_share
from tradingbot.bus.client import BLOCK_MS, connect
from tradingbot.bus.control import Applied, StaleGeneration, issue, read_applied
from tradingbot.bus.errors import BusError, BusFull, IdentityMismatch, LibraryMissing, bus_errors
from tradingbot.bus.names import Stream
from tradingbot.bus.params import StaleParams, write_params
from tradingbot.bus.session import check_identity, identity_of
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.errors import Permanent, Temporary
from tradingbot.domain.messages import Command, ControlCommand
from tradingbot.domain.modes import ModeSource
from tradingbot.runtime.clock import Clock
from tradingbot_operator.bus_url import UrlError, UrlSource
from tradingbot_operator.bus_view import KEYS, BusView, view_of
from tradingbot_operator.modes import awaited, clear_command, command_id, desired_params, spec_command
from tradingbot_operator.params import params_of
from tradingbot_operator.resource import Bot

TIMEOUT_S: Final = 2.0
"""Real seconds for connecting and for each command: a reconcile waits no longer for one bot."""
LOOK_EVERY_S: Final = 0.1
LOOK_AT_MOST_S: Final = 60.0
"""Real seconds after which an acknowledgement is no longer looked for ten times a second."""
RETRY_S: Final = 1.0
IDLE_S: Final = 15.0
"""Real seconds after which an unused connection of a bot that does not run is closed."""
MAX_IDLE: Final = 32
"""Such connections that may be open at once."""
_CLIENT_NAME: Final = "operator"

AnswerT = TypeVar("AnswerT")


class BusUnreachable(Temporary):
    """The operator cannot work with a bot's Redis now; the text says what a person can do.

    Args:
        message: what failed.
        reason: one CamelCase word for a condition.
        delay_s: the least time to wait before the next try.
    """

    def __init__(self, message: str, *, reason: str = "RedisUnreachable", delay_s: float | None = None) -> None:
        super().__init__(message, delay_s=delay_s)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeView:
    """What the bot's Redis held after its mode was written, or found written."""

    view: BusView
    issued: bool
    """True when a command was sent now; the same one again counts, and changes nothing."""
    entry_id: str | None
    """Its entry in ctl.commands."""


class BusLink:
    """One bot's Redis; made by ``Links.of``.

    Raises (every method that asks Redis):
        BusUnreachable: it does not answer, does not let the operator in, or is another bot's.
    """

    def __init__(self, links: Links, bot: Bot) -> None:
        self._links = links
        self._clock = links.clock
        self._bot = bot
        self._redis: Redis | None = None
        self._ready = False
        """True once library and identity have been looked after in this Redis life."""
        self._asking = 0
        self._requested: tuple[str, datetime] | None = None
        self._follower: asyncio.Task[None] | None = None
        self._looker: asyncio.Task[None] | None = None
        self.used_s = self._clock.real_s()
        """When it was last used, real seconds."""

    # ---------------------------------------------------------------- what the reconcile asks

    async def view(self) -> BusView:
        """Everything that is seen of the bot, as of one moment."""
        return await self._ask(self._look)

    async def ensure_library(self) -> None:
        """Load the function library if Redis has not this one, and make this Redis the bot's if it is nobody's."""
        await self.view()

    async def apply_mode(self, bot: Bot, *, execution_present: bool = True) -> ModeView:
        """Write the resource's mode, and what its annotation clears; follow the bot while it runs.

        Harmless when repeated: until it is acknowledged the same command is sent again, and is one command.
        """
        self._bot = bot
        self._note_request(bot)
        self._keep_following(wanted=bot.runs)
        found = await self._ask(lambda redis: self._apply_mode(redis, bot, execution_present=execution_present))
        self._keep_looking(found.view.applied, wanted=execution_present and awaited(bot, found.view))
        return found

    async def apply_params(self, bot: Bot) -> int | None:
        """Write the spec's parameters and announce a change of them; returns their version, None when a newer
        generation has spoken."""
        return await self._ask(lambda redis: self._apply_params(redis, bot))

    async def apply_share(self, per_min: int) -> None:
        """Set the bot's share of the venue's request weight per minute; running services follow at once."""
        await self._ask(lambda redis: self._apply_share(redis, per_min))

    def requested_at(self, bot: Bot) -> datetime | None:
        """When this generation's mode was first wanted of this link; None before ``apply_mode`` was called for it."""
        known = self._requested
        return known[1] if known and known[0] == command_id(bot) else None

    @property
    def bot(self) -> Bot:
        """The resource as it was last given."""
        return self._bot

    @property
    def busy(self) -> bool:
        """Whether somebody or a task of its own uses the connection."""
        return self._asking > 0 or any(task is not None and not task.done() for task in (self._follower, self._looker))

    @property
    def connected(self) -> bool:
        """Whether it holds a connection."""
        return self._redis is not None

    async def rest(self) -> None:
        """Close the connection, unless it has come into use meanwhile."""
        if not self.busy:
            await self._disconnect()

    async def close(self) -> None:
        """Stop following and close the connection; the link works again when it is used."""
        tasks = [task for task in (self._follower, self._looker) if task is not None]
        self._follower = self._looker = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._disconnect()

    # ---------------------------------------------------------------- asking

    async def _ask(self, question: Callable[[Redis], Awaitable[AnswerT]]) -> AnswerT:
        self._asking += 1
        try:
            return await self._ask_twice(question)
        finally:
            self._asking -= 1
            self._links.used(self)
            if not self._asking and not self._links.holds(self):
                await self._disconnect()  # it was given up while it was asked

    async def _ask_twice(self, question: Callable[[Redis], Awaitable[AnswerT]]) -> AnswerT:
        """Ask, and once more with the URL read anew when Redis does not let the operator in."""
        try:
            return await self._with_redis(question)
        except AuthenticationError as error:
            await self._disconnect()
            if not self._links.urls.forget(self._bot):
                raise self._refused(f"Redis does not accept the operator's password: {error}") from error
        try:
            return await self._with_redis(question)
        except AuthenticationError as error:
            raise self._refused(f"Redis does not accept the URL of its Secret: {error}") from error

    async def _with_redis(self, question: Callable[[Redis], Awaitable[AnswerT]]) -> AnswerT:
        try:
            return await self._put(question, self._redis or await self._connect())
        except (BusError, UrlError, IdentityMismatch) as error:
            self._ready = False
            raise self._explained(error) from error
        except AuthenticationError:
            raise
        except (RedisError, Permanent) as error:
            self._ready = False
            raise self._refused(f"Redis refused the operator: {error}") from error

    async def _put(self, question: Callable[[Redis], Awaitable[AnswerT]], redis: Redis) -> AnswerT:
        try:
            with bus_errors():
                return await question(redis)
        finally:
            if redis is not self._redis:
                await _closed(redis)  # another lane gave it up meanwhile, and this one has opened it again

    async def _connect(self) -> Redis:
        url = await self._links.urls.url_of(self._bot)
        if self._redis is None:  # two lanes may ask at once, and one connection would be lost
            self._redis = connect(url, client_name=_CLIENT_NAME, timeout_s=TIMEOUT_S)
        return self._redis

    async def _disconnect(self) -> None:
        redis, self._redis = self._redis, None
        if redis is not None:
            await _closed(redis)

    def _explained(self, error: Exception) -> BusUnreachable:
        if isinstance(error, UrlError):
            return BusUnreachable(str(error), reason=error.reason, delay_s=30.0)
        if isinstance(error, IdentityMismatch):
            return BusUnreachable(str(error), reason="RedisOfAnotherBot", delay_s=60.0)
        if isinstance(error, BusFull):
            text = f"{error}; raise spec.redis.storage's server limit (maxmemory) or shorten what is kept"
            return BusUnreachable(text, reason="RedisFull")
        return BusUnreachable(f"{error}; look at it with `{self._links.urls.look_at(self._bot)}`")

    def _refused(self, text: str) -> BusUnreachable:
        cure = (
            "give the URL's user the operator's rights (docs/security.md)"
            if self._bot.spec.redis.url_secret_ref
            else "was the operator's master key replaced, or the ConfigMap with its users edited?"
        )
        return BusUnreachable(f"{text}; {cure}", reason="RedisRefused", delay_s=15.0)

    async def _look(self, redis: Redis) -> BusView:
        view = await self._read(redis)
        if self._ready:
            return view
        identity = identity_of(
            bot_id=self._bot.bot_id, network=self._bot.network, account=self._links.account_of(self._bot)
        )
        if view.identity != json.dumps(identity, sort_keys=True):
            await check_identity(redis, identity)
        if view.digest != library.library_digest():
            await library.load_library(redis)
        else:
            await library.note_server(redis, known=view.appendfsync)
        self._ready = True
        return view

    async def _read(self, redis: Redis) -> BusView:
        try:
            return view_of(await library.read_keys(redis, *KEYS))
        except LibraryMissing:
            self._ready = False  # a new Redis, or one that came back empty
            await library.load_library(redis)
            return view_of(await library.read_keys(redis, *KEYS))

    # ---------------------------------------------------------------- writing

    async def _apply_mode(self, redis: Redis, bot: Bot, *, execution_present: bool) -> ModeView:
        view = await self._look(redis)
        command = spec_command(bot, view, execution_present=execution_present)
        entry_id = None if command is None else await self._say(redis, bot, command)
        if clear := clear_command(bot, view):
            await self._issue(redis, clear)  # after a HALT of the same moment: nothing may start between the two
        if command is None:
            return ModeView(view=view, issued=False, entry_id=None)
        return ModeView(view=await self._read(redis), issued=True, entry_id=entry_id)

    async def _say(self, redis: Redis, bot: Bot, command: ControlCommand) -> str | None:
        try:
            if desired_params(bot) != params_of(bot.spec):
                await self._apply_params(redis, bot)  # a deletion flattens: execution must know before it obeys
        finally:
            entry_id = await self._issue(redis, command)
        return entry_id

    async def _apply_params(self, redis: Redis, bot: Bot) -> int | None:
        view, params = await self._look(redis), desired_params(bot)
        there = (view.params_uid, view.params_generation, view.params)
        if there == (bot.uid, bot.generation, params):
            return view.params_version
        try:
            version = await write_params(redis, params, generation=bot.generation, uid=bot.uid)
        except StaleParams:
            return None
        await self._issue(
            redis,
            ControlCommand(
                command=Command.SET,
                command_id=f"{bot.uid}:set:{version}",
                source=ModeSource.SPEC,
                reason="the spec's parameters",
                issued_by="operator",
                uid=bot.uid,
                generation=bot.generation,
            ),
        )
        return version

    async def _apply_share(self, redis: Redis, per_min: int) -> None:
        if (await self._look(redis)).share_per_min != per_min:
            await write_share(redis, per_min)

    async def _issue(self, redis: Redis, command: ControlCommand) -> str | None:
        try:
            return await issue(redis, command, now_ms=self._clock.now_ms(), bot_id=self._bot.bot_id)
        except StaleGeneration:
            return None  # the next look at the resource will have the newer one

    def _note_request(self, bot: Bot) -> None:
        if self.requested_at(bot) is None:
            self._requested = (command_id(bot), from_ms(self._clock.now_ms()))

    # ---------------------------------------------------------------- hearing of changes

    def _keep_following(self, *, wanted: bool) -> None:
        running = self._follower is not None and not self._follower.done()
        if wanted and not running:
            self._follower = asyncio.create_task(self._follow(), name=f"follow {self._bot.key}")
        elif not wanted and self._follower is not None:
            self._follower.cancel()
            self._follower = None

    async def _follow(self) -> None:
        """Wake the bot's key at each entry of ctl.commands, and when its Redis goes or comes back."""
        away = False
        while True:
            try:
                url = await self._links.urls.url_of(self._bot)
                async with connect(url, client_name=f"{_CLIENT_NAME}-follow") as redis:
                    with bus_errors():
                        last: Any = await redis.xrevrange(Stream.COMMANDS.value, count=1)
                    await self._wake_at_each(redis, after=last[0][0] if last else "0-0")
            except (Temporary, UrlError, RedisError):
                if not away:
                    self._links.on_change(self._bot.key)
                away = True
                await self._clock.sleep_real(RETRY_S)

    async def _wake_at_each(self, redis: Redis, *, after: str) -> None:
        """Wake once for what came before, then at each new entry."""
        while True:
            self._links.on_change(self._bot.key)
            found: Any = None
            while not (newest := _newest_id(found)):
                with bus_errors():
                    found = await redis.xread({Stream.COMMANDS.value: after}, block=BLOCK_MS)
            after = newest

    def _keep_looking(self, applied: Applied | None, *, wanted: bool) -> None:
        running = self._looker is not None and not self._looker.done()
        if wanted and not running:
            self._looker = asyncio.create_task(self._look_often(applied), name=f"look {self._bot.key}")
        elif not wanted and self._looker is not None:
            self._looker.cancel()
            self._looker = None

    async def _look_often(self, before: Applied | None) -> None:
        """Wake the bot's key when ctl.applied changes, until it is told to stop or nothing came for long."""
        until_s = self._clock.real_s() + LOOK_AT_MOST_S
        with contextlib.suppress(BusUnreachable):  # the reconcile finds it out for itself
            while self._clock.real_s() < until_s:
                await self._clock.sleep_real(LOOK_EVERY_S)
                applied = await self._ask(read_applied)
                if applied != before:
                    before = applied
                    self._links.on_change(self._bot.key)


class Links:
    """The links of all bots, by uid."""

    def __init__(
        self,
        *,
        urls: UrlSource,
        account_of: Callable[[Bot], str | None],
        on_change: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.urls = urls
        self.on_change = on_change
        self.clock = clock
        self._account_of = account_of
        self._links: dict[str, BusLink] = {}
        self._idle: dict[str, BusLink] = {}
        """Those with a connection and without a task, in the order of their use."""
        self._sweeper: asyncio.Task[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def of(self, bot: Bot) -> BusLink:
        """The bot's link; it follows the resource through its generations and ends with its uid."""
        link = self._links.get(bot.uid)
        if link is None:
            link = self._links[bot.uid] = BusLink(self, bot)
        return link

    def account_of(self, bot: Bot) -> str:
        """The account in the identity that Redis keeps; empty where a dry run has none."""
        return self._account_of(bot) or ""

    async def forget(self, uid: str) -> None:
        """Close the link of a bot that is gone."""
        link = self._links.pop(uid, None)
        self._idle.pop(uid, None)
        if link is not None:
            self.urls.forget(link.bot)
            await link.close()

    async def close(self) -> None:
        """Close all."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        await asyncio.gather(*(self.forget(uid) for uid in list(self._links)), *self._closing, return_exceptions=True)

    def holds(self, link: BusLink) -> bool:
        """Whether this is the link of its bot still."""
        return self._links.get(link.bot.uid) is link

    def used(self, link: BusLink) -> None:
        """Note that a link was used now, and close the one that was idle for longest when there are too many."""
        uid = link.bot.uid
        if not self.holds(link):
            return  # closed meanwhile
        link.used_s = self.clock.real_s()
        self._idle.pop(uid, None)
        self._idle[uid] = link
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep(), name="close idle links")
        if len(self._idle) > MAX_IDLE:
            self._let_go(next((uid for uid, each in self._idle.items() if not each.busy), None))

    async def _sweep(self) -> None:
        """Let go what has been idle for long; ends when nothing is left."""
        while self._idle:
            await self.clock.sleep_real(IDLE_S)
            limit_s = self.clock.real_s() - IDLE_S
            for uid in [uid for uid, link in self._idle.items() if link.used_s <= limit_s and not link.busy]:
                self._let_go(uid)

    def _let_go(self, uid: str | None) -> None:
        if uid is None:
            return
        task = asyncio.create_task(self._idle.pop(uid).rest())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _closed(redis: Redis) -> None:
    with contextlib.suppress(RedisError, OSError):
        await redis.aclose()


def _newest_id(answer: Any) -> str | None:
    """The last id that XREAD answered: RESP2 gives a list of pairs, RESP3 a mapping to a list of lists."""
    if not answer:
        return None
    if isinstance(answer, dict):
        [batches] = answer.values()
        entries = [entry for batch in batches for entry in batch]
    else:
        [(_, entries)] = answer
    return str(entries[-1][0]) if entries else None
