"""The settings that never change while a bot runs, without any secret.

The operator renders them into every pod's environment and ``up`` gives them to every process; both validate them with
this one model. What may change while it runs is in ``domain.params``.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from tradingbot.domain.cycles import check_cycle_seconds
from tradingbot.domain.ids import Symbol
from tradingbot.domain.model import Model

_ADDRESS = re.compile(r"0x[0-9a-f]{40}")
_SYMBOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9:_@/-]{0,31}")

STRATEGIES = ("baseline", "llm", "regime", "equal", "inverse_vol")
"""Who may decide; besides these a plugin of a person's own, by its entry point's name."""
MODEL_STRATEGIES = frozenset({"llm", "regime"})
"""Those that ask a language model and so need its endpoint and its name."""
PLUGIN_PREFIX = "plugin:"
STRATEGY_PATTERN = rf"^({'|'.join(STRATEGIES)}|{PLUGIN_PREFIX}[A-Za-z0-9][A-Za-z0-9_.-]{{0,63}})$"


class Network(StrEnum):
    """Which venue is traded on; it alone picks the signing letter (paper signs as testnet)."""

    PAPER = "paper"
    TESTNET = "testnet"
    MAINNET = "mainnet"


class PriceLabel(StrEnum):
    """Where prices come from; shown wherever a price is shown."""

    LIVE = "live"
    RECORDED = "recorded"
    SYNTHETIC = "synthetic"
    UNKNOWN = "unknown"


def split_list(value: Any) -> Any:
    """``"BTC, ETH"`` as a tuple; anything but text is left to the model."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _check_universe(universe: tuple[Symbol, ...]) -> tuple[Symbol, ...]:
    if not universe:
        raise ValueError("must name at least one coin, such as BTC,ETH")
    if twice := sorted({each for each in universe if universe.count(each) > 1}):
        raise ValueError(f"names {', '.join(twice)} twice")
    if odd := [each for each in universe if not _SYMBOL.fullmatch(each)]:
        raise ValueError(f"has names that no coin has: {', '.join(odd)}")
    return universe


def _check_address(address: str) -> str:
    if not _ADDRESS.fullmatch(address.lower()):
        raise ValueError("must be an account address: 0x and 40 hex digits")
    return address.lower()


def _check_strategy(name: str) -> str:
    if not re.fullmatch(STRATEGY_PATTERN, name):
        raise ValueError(f"must be one of {', '.join(STRATEGIES)}, or {PLUGIN_PREFIX}NAME for a strategy of your own")
    return name


def check_host_and_port(url: str) -> str:
    """The URL, if its host and port can be told; raises ValueError otherwise, without the URL."""
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port beyond 65535, or brackets that hold no IPv6 address
        usable = False
    if not usable:
        raise ValueError("must name a host, and a port from 1 to 65535 where it names one")
    return url


def check_http_url(url: str) -> str:
    """The URL without its last slash; raises ValueError, without the URL, if nobody can be asked at it."""
    return _usable(url, "http", "https")


def _check_ws_url(url: str) -> str:
    return _usable(url, "ws", "wss")


def _usable(url: str, *schemes: str) -> str:
    if not url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
        raise ValueError(f"must start with {' or '.join(f'{scheme}://' for scheme in schemes)}")
    return check_host_and_port(url).rstrip("/")


Universe = Annotated[tuple[Symbol, ...], BeforeValidator(split_list), AfterValidator(_check_universe)]
Address = Annotated[str, AfterValidator(_check_address)]
HttpUrl = Annotated[str, AfterValidator(check_http_url)]
WsUrl = Annotated[str, AfterValidator(_check_ws_url)]
StrategyName = Annotated[str, AfterValidator(_check_strategy)]
CycleSeconds = Annotated[int, AfterValidator(check_cycle_seconds)]


class StaticSettings(Model):
    """What is traded, where, and how often. A field's environment name is its name in capitals."""

    universe: Universe = (Symbol("BTC"), Symbol("ETH"), Symbol("SOL"), Symbol("ADA"), Symbol("DOGE"))
    """The coins that are traded, the venue's names, separated by commas. The default: five that are much traded."""

    cycle_seconds: CycleSeconds = 60
    """Length of a trading cycle in seconds: a multiple of 60 that divides a day, so that cycles start at the same
    minutes every day. Default 60: a decision each minute."""

    hl_network: Network = Network.PAPER
    """Which venue: paper, testnet or mainnet. It alone picks the signing letter, never a URL. Default paper: nothing
    that a default can do may cost money."""

    hl_http_url: HttpUrl | None = None
    """The venue's HTTP API. Default: the network's own (mainnet https://api.hyperliquid.xyz); the paper exchange's is
    set by `up`."""

    hl_ws_url: WsUrl | None = None
    """The venue's WebSocket. Default: the network's own (mainnet wss://api.hyperliquid.xyz/ws)."""

    hl_account_address: Address | None = None
    """The account that is traded: 0x and 40 hex digits. Not the API wallet's address: that one only signs. On the
    paper exchange `up` makes one."""

    dry_run: bool = Field(default_factory=lambda seen: seen.get("hl_network") is not Network.PAPER)
    """true: plans and intents are made and written, nothing is sent and no key is needed. Default true on testnet and
    mainnet (run it like this first), false on paper."""

    price_source: PriceLabel = PriceLabel.UNKNOWN
    """Where prices come from: live, recorded, synthetic or unknown. A label that travels with every price; set by
    `up`."""

    ip_weight_per_min: Annotated[int, Field(ge=60, le=1200)] = 1100
    """This bot's share of the venue's request weight per address and minute. Default 1100 of the venue's 1200: the
    rest is for a person's own requests from the same address."""
