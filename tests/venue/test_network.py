import pytest

from tradingbot.domain.static import Network
from tradingbot.venue.network import WrongNetwork, is_mainnet, urls


def test_only_mainnet_signs_with_the_main_letter():
    assert [network for network in Network if is_mainnet(network)] == [Network.MAINNET]


def test_each_network_has_its_own_addresses():
    assert urls(Network.MAINNET).http_url == "https://api.hyperliquid.xyz"
    assert urls(Network.TESTNET).ws_url == "wss://api.hyperliquid-testnet.xyz/ws"
    assert urls(Network.PAPER).http_url == "http://127.0.0.1:3001"


def test_a_given_address_wins_and_a_trailing_slash_changes_nothing():
    endpoints = urls(Network.PAPER, "http://localhost:4000/")

    assert endpoints.http_url == "http://localhost:4000"
    assert endpoints.ws_url == "ws://localhost:4000/ws"


@pytest.mark.parametrize(
    ("network", "url"),
    [
        (Network.PAPER, "https://api.hyperliquid.xyz"),
        (Network.TESTNET, "https://api.hyperliquid.xyz/"),
        (Network.MAINNET, "https://api.hyperliquid-testnet.xyz"),
    ],
)
def test_the_live_host_of_another_network_is_refused(network, url):
    with pytest.raises(WrongNetwork, match="HL_NETWORK"):
        urls(network, url)


def test_a_socket_on_another_network_is_refused():
    with pytest.raises(WrongNetwork):
        urls(Network.PAPER, "http://localhost:4000", "wss://api.hyperliquid.xyz/ws")
