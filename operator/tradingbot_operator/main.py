"""The operator's process: one event loop for the watch, the work and the probe.

Whatever of these ends by itself ends the process with code 1, and the cluster starts it again: a half-dead operator
is worse than a new one. SIGTERM stops the work first, then the watch, within GRACE_S.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from tradingbot.runtime.clock import Clock, Ids, SystemClock
from tradingbot.runtime.health import Health, serve
from tradingbot.runtime.logging import configure_logging
from tradingbot.runtime.process import ExitCode
from tradingbot.runtime.settings import SettingsError
from tradingbot.runtime.stopping import end
from tradingbot_operator import metrics
from tradingbot_operator.cache import Cache
from tradingbot_operator.keys import MasterKey
from tradingbot_operator.kube import Forbidden, Kube, KubeError
from tradingbot_operator.master import master_key
from tradingbot_operator.probe import Probe, Pulse
from tradingbot_operator.queue import WorkQueue
from tradingbot_operator.relist import Relist
from tradingbot_operator.settings import DEFAULT_PATH, SETTINGS_VARIABLE, OperatorSettings, load_settings
from tradingbot_operator.watch import Watcher, streams, watch
from tradingbot_operator.wiring import Parts, reconciling

GRACE_S: Final = 25.0
"""Real seconds from SIGTERM to the end."""
PORT: Final = 8080
PORT_VARIABLE: Final = "TRADINGBOT_OPERATOR_HTTP_PORT"
"""The environment variable with the port of /metrics, /healthz and /readyz; 0 is none. Default 8080. Not ..._PORT: the
cluster sets that to an address where a Service is named tradingbot-operator."""
_TRY_S = 2.0
_SETTLED_S = 30.0
"""Real seconds after the first lists in which what is kept of the bots has been built."""
_RESERVE_S = 5.0
"""Of the grace: for what comes before and after the watch's end."""

log = structlog.stdlib.get_logger("tradingbot.operator")


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    sys.exit(run(os.environ))


def run(environ: Mapping[str, str]) -> ExitCode:
    """Read the settings and run; returns how it ended."""
    try:
        settings = load_settings(Path(environ.get(SETTINGS_VARIABLE) or DEFAULT_PATH))
    except SettingsError as error:
        for line in error.lines:
            sys.stderr.write(f"operator: {line}\n")
        return ExitCode.REFUSED
    clock = SystemClock()
    configure_logging(service="operator", level=settings.log_level, clock=clock)
    if settings.log_level != "DEBUG":
        logging.getLogger("kopf").setLevel(logging.WARNING)
    return asyncio.run(operate(settings, clock=clock, ids=Ids(), port=int(environ.get(PORT_VARIABLE) or PORT)))


async def operate(settings: OperatorSettings, *, clock: Clock, ids: Ids, port: int) -> ExitCode:
    """Run until a signal comes or a part ends; returns how it ended."""
    health, stop = Health(clock), asyncio.Event()
    _on_signals(stop)
    kube = await Kube.connect(clock)
    try:
        async with serve(health, host="0.0.0.0", port=port):  # noqa: S104 - the kubelet and Prometheus come from outside
            log.info("started", namespaces=settings.watched, port=port)
            code = await Operator(settings, kube, health, clock=clock, ids=ids).run(stop)
            log.info("stopped", code=int(code))
            return code
    finally:
        await kube.close()


class Operator:
    """The parts and their life."""

    def __init__(self, settings: OperatorSettings, kube: Kube, health: Health, *, clock: Clock, ids: Ids) -> None:
        self._settings, self._kube, self._clock = settings, kube, clock
        self._cache, self._queue = Cache(), WorkQueue(clock, ids)
        self._watcher = Watcher(self._cache, self._queue)
        self._pulse = Pulse(clock, streams(settings.watched))
        self._relist = Relist(
            kube,
            self._watcher,
            cache=self._cache,
            queue=self._queue,
            clock=clock,
            ids=ids,
            namespaces=settings.watched,
            resync_s=settings.resync_seconds,
        )
        self._probe = Probe(self._pulse, health, clock, lambda: self._relist.served_s)
        metrics.bots.set_function(lambda: len(self._cache))

    async def run(self, stop: asyncio.Event) -> ExitCode:
        """Run until ``stop`` is set or a part ends."""
        stopping = asyncio.create_task(stop.wait(), name="stop")
        probing = asyncio.create_task(self._probe.run(), name="probe")
        unwatch, listed = asyncio.Event(), asyncio.Event()
        working = asyncio.create_task(self._work(listed), name="work")
        watching = asyncio.create_task(self._watch(stop, unwatch, listed), name="watch")
        parts = (probing, working, watching)
        await asyncio.wait({stopping, *parts}, return_when=asyncio.FIRST_COMPLETED)
        failed = [part for part in parts if part.done()]
        for part in failed:
            log.error("part_ended", part=part.get_name(), exc_info=_error_of(part))
        # The work first: what it has begun is let go before the tasks of the watch, which takes all others with it.
        await end(working)
        await end(probing)
        await end(stopping)
        unwatch.set()
        listed.set()  # nobody waits for the lists any more
        _, alive = await asyncio.wait({watching}, timeout=GRACE_S - _RESERVE_S)
        if alive:
            log.error("watch_does_not_end", grace_s=GRACE_S)
        await end(watching)
        return ExitCode.FAILED if failed or alive else ExitCode.DONE

    async def _watch(self, stop: asyncio.Event, unwatch: asyncio.Event, listed: asyncio.Event) -> None:
        await listed.wait()
        if unwatch.is_set():
            return
        namespaces = self._relist.served
        await watch(self._watcher, self._pulse, namespaces, stop=unwatch, started=lambda: _on_signals(stop))

    async def _work(self, listed: asyncio.Event) -> None:
        master = await self._master()
        await self._relist.fill()
        self._pulse.expect(streams(self._relist.served))
        log.info("listed", bots=len(self._cache), namespaces=self._relist.served)
        listed.set()
        parts = Parts(
            settings=self._settings,
            kube=self._kube,
            cache=self._cache,
            queue=self._queue,
            clock=self._clock,
            master=master,
        )
        async with reconciling(parts) as handlers, asyncio.TaskGroup() as group:
            group.create_task(self._queue.run(handlers), name="queue")
            group.create_task(self._relist.run(), name="relist")
            group.create_task(self._spare_collector(), name="spare collector")

    async def _spare_collector(self) -> None:
        """Take what stays out of the garbage collector's sight: with 1,000 bots a full collection stops every lane for
        200 to 400 ms. What is dropped later is freed all the same, but for cycles among what is here now."""
        gc.freeze()
        await self._clock.sleep_real(_SETTLED_S)
        gc.collect()
        gc.freeze()

    async def _master(self) -> MasterKey:
        """The master key, as soon as the API server gives it."""
        while True:
            try:
                return await master_key(self._kube, self._settings.operator_namespace, self._settings.watched)
            except (KubeError, Forbidden) as error:
                log.warning("no_master_key_yet", error=str(error))
                await self._clock.sleep_real(_TRY_S)


def _on_signals(stop: asyncio.Event) -> None:
    # Again after kopf has set its own: that would end the watch while the work still counts on it.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def _error_of(task: asyncio.Task[None]) -> BaseException | None:
    return None if task.cancelled() else task.exception()


if __name__ == "__main__":
    main()
