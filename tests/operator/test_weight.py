"""The venue's weight per address: divided among those that run, never too much, never below what a bot needs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.domain.static import Network, StaticSettings
from tradingbot_operator.weight import LEAST, Weights

NETWORKS = st.sampled_from([Network.TESTNET, Network.MAINNET, Network.PAPER])


def test_the_least_share_is_the_least_that_the_services_accept() -> None:
    [least] = [each.ge for each in StaticSettings.model_fields["ip_weight_per_min"].metadata if hasattr(each, "ge")]
    assert least == LEAST


@given(
    steps=st.lists(st.tuples(st.integers(0, 30), NETWORKS, st.booleans()), max_size=60),
    total=st.integers(min_value=60, max_value=1200),
)
def test_shares_of_a_network_never_exceed_the_addresss_weight_unless_it_is_said(
    steps: list[tuple[int, Network, bool]], total: int
) -> None:
    weights = Weights(total)
    running: dict[str, Network] = {}
    for bot, network, runs in steps:
        key = f"ns/{bot}"
        before = {each: weights.share(each) for each in running}
        changed = weights.observe(key, network, counts=runs)
        running.pop(key, None)
        running |= {key: network} if runs else {}
        assert {each for each in running if before.get(each) != weights.share(each)} <= changed
    for network in Network:
        shares = [weights.share(key) for key, of in running.items() if of is network]
        if network is Network.PAPER:
            assert {share.per_min for share in shares} <= {total}
        elif shares and not shares[0].warning:
            assert sum(share.per_min for share in shares) <= total
            assert sum(share.per_min for share in shares) > total - len(shares), "nothing is left unused"
        assert all(share.per_min >= LEAST for share in shares)


def test_one_more_bot_changes_the_shares_of_its_network_alone() -> None:
    weights = Weights(1100)
    weights.observe("ns/a", Network.TESTNET, counts=True)
    weights.observe("ns/m", Network.MAINNET, counts=True)
    weights.observe("ns/p", Network.PAPER, counts=True)
    assert weights.observe("ns/b", Network.TESTNET, counts=True) == {"ns/a", "ns/b"}
    assert [weights.share(f"ns/{name}").per_min for name in "abmp"] == [550, 550, 1100, 1100]
    assert weights.observe("ns/b", Network.TESTNET, counts=True) == set()
    assert weights.forget("ns/b") == {"ns/a"}
    assert weights.share("ns/a").per_min == 1100


@pytest.mark.parametrize(("bots", "per_min", "warns"), [(18, 61, False), (19, 60, True), (100, 60, True)])
def test_too_many_bots_get_the_least_and_a_warning(bots: int, per_min: int, warns: bool) -> None:
    weights = Weights(1100)
    for at in range(bots):
        weights.observe(f"ns/{at}", Network.MAINNET, counts=True)
    share = weights.share("ns/0")
    assert (share.per_min, bool(share.warning)) == (per_min, warns)
