"""The monitor's own settings: where its page listens and who may command."""

from __future__ import annotations

import ipaddress
from typing import Annotated

from pydantic import Field, SecretStr

from tradingbot.runtime.settings import ServiceSettings


class MonitorSettings(ServiceSettings):
    """What the monitor adds to the settings that every service shares."""

    monitor_host: str = "127.0.0.1"
    """The address that the page and the API listen on. Default 127.0.0.1: an account's figures are not for the
    network; the operator sets 0.0.0.0 behind a network policy."""

    monitor_port: Annotated[int, Field(ge=0, le=65_535)] = 8090
    """TCP port of the page and the API. 0 takes a free one, which is logged."""

    monitor_token: Annotated[SecretStr, Field(min_length=16)] | None = None
    """Bearer token for POST /api/mode, at least 16 characters. Default: none; then commands are taken only while the
    monitor listens on a loopback address, and refused otherwise."""

    @property
    def listens_on_loopback(self) -> bool:
        """True when only this machine can reach the monitor."""
        return is_loopback(self.monitor_host)


def is_loopback(host: str) -> bool:
    """True for localhost and for addresses of the loopback network."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
