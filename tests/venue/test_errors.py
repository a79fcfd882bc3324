"""Every text of the venue has one meaning for the caller: refused, retryable, or unknown."""

import pytest

from tradingbot.domain.errors import Permanent, Temporary, Unknown
from tradingbot.venue import errors as e
from tradingbot.venue.errors import classify

REFUSED, RETRYABLE, UNKNOWN = Permanent, Temporary, Unknown

ORDER_TEXTS = [
    ("Price must be divisible by tick size.", e.BadTick, REFUSED),
    ("Order must have minimum value of $10.", e.MinNotional, REFUSED),
    ("Order must have minimum value of 10 USDC.", e.MinNotional, REFUSED),
    ("Insufficient margin to place order.", e.InsufficientMargin, REFUSED),
    ("Reduce only order would increase position.", e.ReduceOnlyWouldIncrease, REFUSED),
    ("Post only order would have immediately matched, bbo was 1923.4@1923.5.", e.PostOnlyWouldMatch, REFUSED),
    ("Order could not immediately match against any resting orders.", e.IocNoMatch, REFUSED),
    ("Invalid TP/SL price.", e.BadTrigger, REFUSED),
    ("No liquidity available for market order.", e.NoLiquidity, REFUSED),
    ("Order would increase open interest while open interest is capped", e.OpenInterestCapped, REFUSED),
    (
        "Order rejected due to price more aggressive than oracle while at open interest cap",
        e.OpenInterestCapped,
        REFUSED,
    ),
    ("Order would increase open interest too quickly", e.OpenInterestCapped, REFUSED),
    ("(Spot-only) Order has insufficient spot balance to trade", e.InsufficientSpotBalance, REFUSED),
    ("Order price too far from oracle", e.PriceTooFar, REFUSED),
    ("Price too far from oracle", e.PriceTooFar, REFUSED),
    ("Order would cause position to exceed margin tier limit at current leverage", e.PositionLimit, REFUSED),
    ("Order was never placed, already canceled, or filled.", e.OrderGone, REFUSED),
    ("Order has zero size.", e.BadSize, REFUSED),
    ("Order has invalid size.", e.BadSize, REFUSED),
    ("Order has invalid price.", e.BadPrice, REFUSED),
    ("Orders are empty.", e.BadOrder, REFUSED),
    ("Order price cannot be more than 80% away from the reference price", e.PriceTooFar, REFUSED),
    ("Order price cannot be more than 95% away from the reference price", e.PriceTooFar, REFUSED),
    ("Unexpected number of trigger orders", e.BadOrder, REFUSED),
    ("Only post-only orders allowed immediately after a network upgrade", e.PostOnlyPeriod, RETRYABLE),
    ("Cannot modify canceled or filled order", e.OrderGone, REFUSED),
    ("Error placing new order during modify: Order has invalid size.", e.ModifyLost, REFUSED),
]
WALLET = "0x14dc79964da2c08b23698b3d3cc7ca32193d9955"
ACTION_TEXTS = [
    (f"User or API Wallet {WALLET} does not exist.", e.UnknownSigner, REFUSED),
    (
        f"L1 error: User or API Wallet {WALLET} does not exist.",
        e.UnknownSigner,
        REFUSED,
    ),
    (
        f"Must deposit before performing actions. User: {WALLET}",
        e.NotDeposited,
        REFUSED,
    ),
    (
        "Too many cumulative requests sent (97460 > 97456) for cumulative volume traded $87457.46.",
        e.AddressBudgetExhausted,
        RETRYABLE,
    ),
    ("Invalid nonce: duplicate nonce 1677777606040", e.AlreadyAdmitted, UNKNOWN),
    ("Invalid nonce: nonce too low 1 < 1677777606040", e.BadNonce, REFUSED),
    ("Invalid nonce: nonce too high 9677777606040 > 1677777606040", e.BadNonce, REFUSED),
    ("Action already expired", e.Expired, REFUSED),
    ("Signed action over weight limit of 200.", e.BatchTooLarge, REFUSED),
    ("Unable to recover signer.", e.UnknownSigner, REFUSED),
    ("Vault not registered: 0x1719884eb866cb12b2287399b15f7db5e7d775ea", e.UnknownVault, REFUSED),
    ("Action disabled when unified account is active", e.WrongAccountMode, REFUSED),
    ("Insufficient balance for withdrawal", e.InsufficientBalance, REFUSED),
    ("Invalid leverage value", e.LeverageRefused, REFUSED),
    ("Cannot switch leverage type with open position.", e.LeverageRefused, REFUSED),
    ("Cross margin is not allowed for this asset.", e.LeverageRefused, REFUSED),
    (
        "Cross position does not have sufficient margin available to decrease leverage from 10 to 5",
        e.LeverageRefused,
        REFUSED,
    ),
    (
        "Isolated position does not have sufficient margin available to decrease leverage. Add margin",
        e.LeverageRefused,
        REFUSED,
    ),
    (
        "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $12.5.",
        e.ScheduleCancelRefused,
        REFUSED,
    ),
    ("Scheduled cancel time too early, must be at least 5 seconds from now.", e.ScheduleCancelRefused, REFUSED),
    ("Extra agent already used.", e.AgentRefused, REFUSED),
    ("Too many extra agents for cumulative volume traded. Traded $1.", e.AgentRefused, REFUSED),
    ("Agent valid_until already expired.", e.AgentRefused, REFUSED),
    ("User has pending agent removal", e.AgentPending, RETRYABLE),
]
TRANSPORT_TEXTS = [
    ("Failed to parse the request body as JSON: expected value at line 1", e.BadRequest, REFUSED),
    ("Failed to deserialize the JSON body into the target type", e.BadRequest, REFUSED),
    ("Expected request with `Content-Type: application/json`", e.BadRequest, REFUSED),
    ('Already subscribed: {"type":"allMids"}', e.SubscriptionRefused, REFUSED),
    ('Already unsubscribed: {"type":"allMids"}', e.SubscriptionRefused, REFUSED),
    ('Invalid subscription {"type":"allMid"}', e.SubscriptionRefused, REFUSED),
    ("Error parsing JSON into valid websocket request: {}", e.BadRequest, REFUSED),
    ("too many pending post requests id=7", e.TooManyPosts, RETRYABLE),
    ("Cannot track more than 15 total users.", e.SubscriptionRefused, REFUSED),
]
TAILS = ["", " asset=4"]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize(("text", "kind", "verdict"), ORDER_TEXTS + ACTION_TEXTS + TRANSPORT_TEXTS)
def test_every_known_text_has_its_type_and_verdict(text, kind, verdict, tail):
    error = classify(text + tail)

    assert type(error) is kind
    assert isinstance(error, verdict)
    assert str(error) == text + tail


@pytest.mark.parametrize(("text", "kind", "verdict"), ORDER_TEXTS)
def test_refusals_of_single_orders_are_told_from_those_of_actions(text, kind, verdict):
    assert issubclass(kind, e.OrderRefused | e.PostOnlyPeriod)


@pytest.mark.parametrize(("text", "kind", "verdict"), ACTION_TEXTS)
def test_refusals_of_actions_are_never_taken_for_those_of_orders(text, kind, verdict):
    assert not issubclass(kind, e.OrderRefused)


def test_a_text_that_nobody_knows_is_a_refusal_that_keeps_its_words():
    error = classify("The moon is in the wrong house.")

    assert type(error) is e.Unrecognized
    assert "moon" in str(error)


def test_case_does_not_matter():
    assert type(classify("PRICE MUST BE DIVISIBLE BY TICK SIZE.")) is e.BadTick


def test_an_exhausted_account_budget_asks_for_the_venues_ten_seconds():
    error = classify("Too many cumulative requests sent (2 > 1)")

    assert isinstance(error, e.Retryable)
    assert error.delay_s == 10


def test_every_error_has_exactly_one_verdict():
    kinds = [kind for kind in vars(e).values() if isinstance(kind, type) and issubclass(kind, e.VenueError)]
    leaves = [kind for kind in kinds if kind is not e.VenueError]

    for kind in leaves:
        assert sum(issubclass(kind, verdict) for verdict in (Permanent, Temporary, Unknown)) == 1, kind
