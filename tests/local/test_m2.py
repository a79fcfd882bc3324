"""The mission's second milestone as a settings file: it is valid once the two personal lines are filled in."""

from __future__ import annotations

from pathlib import Path

from tradingbot.local.environment import check_environment, read_environment
from tradingbot.runtime.settings import load_params

M2 = Path(__file__).parents[2] / "docs" / "m2.env"


def test_the_settings_of_the_second_milestone_are_valid_and_small(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("1" * 64)
    key.chmod(0o600)
    given = read_environment(M2, {}) | {"HL_ACCOUNT_ADDRESS": "0x" + "a" * 40, "HL_PRIVATE_KEY_FILE": str(key)}

    check_environment(given)
    params = load_params(given)

    assert given["UNIVERSE"] == "BTC,ETH"
    assert 0.02 <= max(params.risk.cap(symbol) for symbol in ("BTC", "ETH")) <= 0.05
    assert params.risk.cap("SOL") == 0
