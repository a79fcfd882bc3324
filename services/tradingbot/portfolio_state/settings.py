"""portfolio_state's own settings: how often the venue is read."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tradingbot.runtime.settings import ServiceSettings, SettingsError


class PortfolioStateSettings(ServiceSettings):
    """What portfolio_state adds to the settings that every service shares."""

    reconcile_interval_s: Annotated[float, Field(ge=1, le=25)] = 10
    """Virtual seconds between two reconciliations. Default 10; at most 25, because the breaker halts when none was
    good for 30 s."""

    order_poll_interval_s: Annotated[float, Field(ge=1, le=60)] = 5
    """Virtual seconds between two rounds of orderStatus for the orders whose end is not known. Default 5."""

    nudge_gap_s: Annotated[float, Field(ge=0.2, le=25)] = 2
    """The least virtual time between two reconciliations when the venue's stream tells of fills or order updates.
    Default 2: an early one costs up to 64 of the venue's 1200 weight a minute."""

    @property
    def account(self) -> str:
        """The account that is mirrored.

        Raises:
            SettingsError: none is set.
        """
        if self.hl_account_address is None:
            raise SettingsError(["HL_ACCOUNT_ADDRESS: not set; portfolio_state mirrors this account"])
        return self.hl_account_address
