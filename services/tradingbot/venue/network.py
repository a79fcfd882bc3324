"""Where a network lives and which letter signs for it.

The network's name alone picks the signing letter, never a URL: an action signed for the test network can never be
replayed on the main one. Paper signs as testnet does.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import Network

_HOSTS = {Network.MAINNET: "api.hyperliquid.xyz", Network.TESTNET: "api.hyperliquid-testnet.xyz"}
_PAPER_HTTP = "http://127.0.0.1:3001"


class WrongNetwork(Permanent):
    """A URL leads to another network than the one that was named."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The two addresses of a venue."""

    http_url: str
    ws_url: str


def urls(network: Network, http_url: str | None = None, ws_url: str | None = None) -> Endpoints:
    """The network's own addresses, or the given ones (a proxy, the paper exchange).

    Raises:
        WrongNetwork: a given address is the live host of another network.
    """
    host = _HOSTS.get(network)
    http = (http_url or (f"https://{host}" if host else _PAPER_HTTP)).rstrip("/")
    ws = (ws_url or f"ws{http.removeprefix('http')}/ws").rstrip("/")
    for url in (http, ws):
        _check_host(url, network)
    return Endpoints(http_url=http, ws_url=ws)


def is_mainnet(network: Network) -> bool:
    """True when actions are signed with the main network's letter."""
    return network is Network.MAINNET


def is_loopback(url: str) -> bool:
    """True for this machine, which no proxy leads to."""
    name = urlsplit(url).hostname or ""
    return name in {"localhost", "::1"} or name.startswith("127.")


def _check_host(url: str, network: Network) -> None:
    name = urlsplit(url).hostname
    owner = next((other for other, host in _HOSTS.items() if host == name), None)
    if owner is not None and owner is not network:
        raise WrongNetwork(f"{url} is {owner.value}, but HL_NETWORK is {network.value}: change one of them")
