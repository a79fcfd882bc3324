"""The venue's request weight per address, divided among the bots that run on the same venue behind it.

A paper exchange belongs to one bot and counts for itself. Shares are equal: which bot needs more changes by the
second, and too little only stretches polling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from tradingbot.domain.static import Network

LEAST: Final = 60
"""Weight per minute that a bot cannot work without: one userRole request, or a cancel and a look at it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one bot may use of the address's request weight."""

    per_min: int
    warning: str = ""
    """Why that is too much for all of them together; empty when it is not."""


class Weights:
    """The shares of all bots that one operator looks after.

    Args:
        total: weight a minute of the address (``OperatorSettings.ip_weight_per_min``).
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._networks: dict[str, Network] = {}

    def observe(self, key: str, network: Network, *, counts: bool) -> frozenset[str]:
        """Note whether a bot sends requests now; returns the keys whose share changed by it, its own too."""
        before = self._shares()
        if counts:
            self._networks[key] = network
        else:
            self._networks.pop(key, None)
        after = self._shares()
        return frozenset(each for each in before.keys() | after.keys() if before.get(each) != after.get(each))

    def forget(self, key: str) -> frozenset[str]:
        """Note that a bot is gone; returns the keys whose share changed by it."""
        return self.observe(key, Network.PAPER, counts=False) - {key}

    def share(self, key: str) -> Share:
        """A bot's share; the whole for one that does not count."""
        network = self._networks.get(key)
        return self._shares()[key] if network else Share(per_min=self._total)

    def _shares(self) -> Mapping[str, Share]:
        by_network: dict[Network, list[str]] = {}
        for key, network in self._networks.items():
            by_network.setdefault(network, []).append(key)
        return {key: self._divided(network, len(keys)) for network, keys in by_network.items() for key in keys}

    def _divided(self, network: Network, bots: int) -> Share:
        if network is Network.PAPER:
            return Share(per_min=self._total)
        if self._total // bots >= LEAST:
            return Share(per_min=self._total // bots)
        warning = (
            f"{bots} bots on {network} share {self._total} weight a minute of one address, less than {LEAST} each: "
            "the venue will refuse requests; run fewer, or another operator behind another address"
        )
        return Share(per_min=LEAST, warning=warning)
