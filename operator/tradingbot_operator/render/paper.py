"""The paper exchange of a bot on network paper, with its state on a volume and the bot's account in it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from tradingbot_operator import names
from tradingbot_operator.render.context import Context
from tradingbot_operator.render.manifest import Manifest
from tradingbot_operator.render.pods import TRADINGBOT_USER, Mount, Pod, deployment, service, volume_claim
from tradingbot_operator.resource import Bot

PORT: Final = 3001
_DATA_FOLDER: Final = "/data"
_TCP: Final = {"tcpSocket": {"port": "paper"}, "timeoutSeconds": 5}
_PROBES: Final = {
    "startupProbe": {**_TCP, "periodSeconds": 2, "failureThreshold": 150},
    "readinessProbe": {**_TCP, "periodSeconds": 5, "failureThreshold": 3},
    "livenessProbe": {**_TCP, "periodSeconds": 20, "failureThreshold": 4},
}


def paper_urls(bot: Bot) -> tuple[str, str]:
    """HTTP and WebSocket addresses of the bot's exchange."""
    host = f"{names.child(bot.name, names.PAPER)}.{bot.namespace}.svc:{PORT}"
    return f"http://{host}", f"ws://{host}/ws"


def paper(bot: Bot, context: Context) -> Iterator[Manifest]:
    """The exchange and its Service."""
    yield service(bot, "paper", port=PORT)
    claim = {"persistentVolumeClaim": {"claimName": names.paper_claim(bot.bot_id)}}
    pod = Pod(
        component="paper",
        image=bot.spec.image or context.settings.image,
        user=TRADINGBOT_USER,
        args=_arguments(bot, context),
        ports={"paper": PORT},
        probes=_PROBES,
        has_state=True,
        mounts=(
            Mount(name="data", path=_DATA_FOLDER, source=claim, writable=True),
            # SQLite's temporary files.
            Mount(name="tmp", path="/tmp", source={"emptyDir": {}}, writable=True),  # noqa: S108 - in a container
        ),
    )
    yield deployment(bot, context, pod)


def paper_state(bot: Bot, context: Context) -> Iterator[Manifest]:
    """The volume that keeps orders, positions and prices."""
    claim, storage = names.paper_claim(bot.bot_id), bot.spec.exchange.paper_settings.storage
    yield volume_claim(bot, context, name=claim, component="paper", storage=storage)


def _arguments(bot: Bot, context: Context) -> list[str]:
    settings = bot.spec.exchange.paper_settings
    return [
        "paper",
        "--host=0.0.0.0",
        f"--port={PORT}",
        f"--data-dir={_DATA_FOLDER}",
        f"--prices={settings.prices}",
        f"--symbols={','.join(bot.spec.universe)}",
        f"--account={context.account}",
        f"--agent={context.agent_address}",
        f"--start-equity-usd={_plain(settings.start_equity_usd)}",
        f"--latency-ms={settings.latency_ms}",
    ]


def _plain(usd: float) -> str:
    """Without an exponent, and without a fraction that is zero."""
    return f"{Decimal(repr(usd)):f}".removesuffix(".0")
