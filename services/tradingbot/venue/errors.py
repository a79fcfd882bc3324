"""What the venue may answer that is not a success, and what each answer means for the caller.

::

    VenueError
    ├── Refused (Permanent)             a definite no; the nonce is used up
    │   ├── OrderRefused                one order or cancel; in a batch the others may have succeeded
    │   │   ├── NotAdmitted             refused before admission: the venue keeps no record of the order
    │   │   │   └── BadSize, BadPrice, BadOrder, PriceTooFar
    │   │   └── BadTick, MinNotional, InsufficientMargin, ReduceOnlyWouldIncrease, PostOnlyWouldMatch, IocNoMatch,
    │   │       BadTrigger, NoLiquidity, OpenInterestCapped, InsufficientSpotBalance, PositionLimit,
    │   │       TooManyOpenOrders, OrderGone, ModifyLost
    │   └── ActionRefused               the whole action
    │       └── UnknownSigner, NotDeposited, BadNonce, Expired, BatchTooLarge, UnknownVault, WrongAccountMode,
    │           InsufficientBalance, LeverageRefused, ScheduleCancelRefused, AgentRefused, BadRequest, UnknownCoin,
    │           SubscriptionRefused, Unrecognized
    ├── Retryable (Temporary)           it had no effect; a fresh request may succeed later
    │   └── RateLimited, AddressBudgetExhausted, PostOnlyPeriod, AgentPending, VenueUnreachable, VenueUnavailable,
    │       TooManyPosts
    └── OutcomeUnknown (Unknown)        a write left us: ask, or resend the very same bytes
        └── AlreadyAdmitted             the nonce was used before: the first sending was admitted

Texts are matched by substring: live texts bear tails such as " asset=4" and prefixes such as "L1 error: ".
The texts are the venue's documentation ("Error responses") and what its servers were seen to answer.
"""

from __future__ import annotations

from tradingbot.domain.errors import Permanent, Temporary, TradingBotError, Unknown


class VenueError(TradingBotError):
    """Anything but a success; its text is the venue's own where it gave one."""


class Refused(VenueError, Permanent):  # noqa: N818 - the word is the verdict
    """A definite no."""


class Retryable(VenueError, Temporary):  # noqa: N818
    """It had no effect and may succeed later."""


class OutcomeUnknown(VenueError, Unknown):  # noqa: N818
    """A write left us and no answer tells what became of it."""


class OrderRefused(Refused):
    """One order or cancel was refused."""


class NotAdmitted(OrderRefused):
    """Refused before admission: one such answer stands for the whole batch and leaves no record of the orders."""


class BadSize(NotAdmitted):
    """The size is zero or has more decimals than the coin allows."""


class BadPrice(NotAdmitted):
    """The price is not a price."""


class BadOrder(NotAdmitted):
    """The batch or the order is malformed."""


class PriceTooFar(NotAdmitted):
    """The price lies outside the venue's band around its reference price."""


class BadTick(OrderRefused):
    """The price is not a multiple of the tick."""


class MinNotional(OrderRefused):
    """The order is worth less than the venue's minimum."""


class InsufficientMargin(OrderRefused):
    """The account's free margin does not cover the order."""


class ReduceOnlyWouldIncrease(OrderRefused):
    """A reduce-only order without a position to reduce."""


class PostOnlyWouldMatch(OrderRefused):
    """A post-only order that would have taken liquidity: a missed slice, not a fault."""


class IocNoMatch(OrderRefused):
    """An immediate-or-cancel order found nothing to match."""


class BadTrigger(OrderRefused):
    """A trigger price on the wrong side."""


class NoLiquidity(OrderRefused):
    """A market order found an empty book."""


class OpenInterestCapped(OrderRefused):
    """The coin's open interest is at its cap."""


class InsufficientSpotBalance(OrderRefused):
    """A spot order without the tokens for it."""


class PositionLimit(OrderRefused):
    """The position would exceed the margin tier's limit at the present leverage."""


class TooManyOpenOrders(OrderRefused):
    """The account has as many open orders as it may."""


class OrderGone(OrderRefused):
    """The order to cancel or modify was never placed, or is cancelled or filled already."""


class ModifyLost(OrderRefused):
    """The modified order was removed but its replacement was refused."""


class ActionRefused(Refused):
    """The whole action was refused."""


class UnknownSigner(ActionRefused):
    """The recovered signer is no one's key: an expired or unapproved API wallet, or the wrong network's signature."""


class NotDeposited(ActionRefused):
    """The signer's account never held funds: a wrong signature, or an API wallet used for what only the owner may."""


class BadNonce(ActionRefused):
    """The nonce is below the 100 that the venue remembers, or too far from its clock."""


class Expired(ActionRefused):
    """The action reached the venue after its expiresAfter."""


class BatchTooLarge(ActionRefused):
    """More than 200 entries in one action."""


class UnknownVault(ActionRefused):
    """The vault or sub-account is not registered."""


class WrongAccountMode(ActionRefused):
    """The account's abstraction mode forbids the action."""


class InsufficientBalance(ActionRefused):
    """A withdrawal above the balance."""


class LeverageRefused(ActionRefused):
    """The leverage or margin mode cannot be set so."""


class ScheduleCancelRefused(ActionRefused):
    """The dead-man switch is not open to this account or its time is too early."""


class AgentRefused(ActionRefused):
    """An API wallet cannot be approved so."""


class BadRequest(ActionRefused):
    """The request does not have the form that the venue reads; nothing was admitted."""


class UnknownCoin(ActionRefused):
    """The venue has no such coin."""


class SubscriptionRefused(ActionRefused):
    """A WebSocket subscription was refused."""


class Unrecognized(ActionRefused):
    """A refusal whose text this version does not know."""


class RateLimited(Retryable):
    """HTTP 429: this address's weight for the minute is used up; nothing was admitted."""


class AddressBudgetExhausted(Retryable):
    """The account's action budget is used up: one action per 10 s until it trades more. Cancels have a higher limit."""


class PostOnlyPeriod(Retryable):
    """After a network upgrade the venue takes post-only orders alone: a state to wait out."""


class AgentPending(Retryable):
    """An API wallet is being removed; a few seconds."""


class TooManyPosts(Retryable):
    """Too many requests in flight on one WebSocket."""


class VenueUnreachable(Retryable):
    """No connection: nothing left us."""


class VenueUnavailable(Retryable):
    """A read got no usable answer: 5xx, a time-out, a broken connection, HTML or ``null`` instead of data."""


class AlreadyAdmitted(OutcomeUnknown):
    """ "Duplicate nonce": the first sending was admitted. It may rest, be filled, or have been refused: ask."""


ADDRESS_BUDGET_DELAY_S = 10.0
_DELAYS_S: dict[type[Retryable], float] = {
    AddressBudgetExhausted: ADDRESS_BUDGET_DELAY_S,
    RateLimited: 2.0,
    PostOnlyPeriod: 5.0,
    AgentPending: 5.0,
}

_TEXTS: tuple[tuple[str, type[VenueError]], ...] = (
    # Orders and cancels, one by one.
    ("price must be divisible by tick size", BadTick),
    ("order must have minimum value of", MinNotional),
    ("insufficient margin to place order", InsufficientMargin),
    ("reduce only order would increase position", ReduceOnlyWouldIncrease),
    ("post only order would have immediately matched", PostOnlyWouldMatch),
    ("could not immediately match against any resting orders", IocNoMatch),
    ("invalid tp/sl price", BadTrigger),
    ("no liquidity available for market order", NoLiquidity),
    ("open interest while open interest is capped", OpenInterestCapped),
    ("more aggressive than oracle while at open interest cap", OpenInterestCapped),
    ("would increase open interest too quickly", OpenInterestCapped),
    ("insufficient spot balance", InsufficientSpotBalance),
    ("too far from oracle", PriceTooFar),
    ("away from the reference price", PriceTooFar),
    ("exceed margin tier limit", PositionLimit),
    ("too many open orders", TooManyOpenOrders),
    ("order was never placed, already canceled, or filled", OrderGone),
    ("cannot modify canceled or filled order", OrderGone),
    ("error placing new order during modify", ModifyLost),
    ("order has zero size", BadSize),
    ("order has invalid size", BadSize),
    ("order has invalid price", BadPrice),
    ("orders are empty", BadOrder),
    ("trigger order", BadOrder),
    ("only post-only orders allowed", PostOnlyPeriod),
    # Whole actions.
    ("too many cumulative requests sent", AddressBudgetExhausted),
    ("duplicate nonce", AlreadyAdmitted),
    ("invalid nonce", BadNonce),
    ("action already expired", Expired),
    ("must deposit before performing actions", NotDeposited),
    ("user or api wallet", UnknownSigner),
    ("unable to recover signer", UnknownSigner),
    ("signed action over weight limit", BatchTooLarge),
    ("vault not registered", UnknownVault),
    ("action disabled when unified account is active", WrongAccountMode),
    ("insufficient balance for withdrawal", InsufficientBalance),
    ("invalid leverage value", LeverageRefused),
    ("cannot switch leverage type", LeverageRefused),
    ("cross margin is not allowed", LeverageRefused),
    ("does not have sufficient margin available to decrease leverage", LeverageRefused),
    ("cannot set scheduled cancel time", ScheduleCancelRefused),
    ("scheduled cancel time too early", ScheduleCancelRefused),
    ("extra agent already used", AgentRefused),
    ("too many extra agents", AgentRefused),
    ("agent valid_until already expired", AgentRefused),
    ("user has pending agent removal", AgentPending),
    # Transport and WebSocket.
    ("failed to parse the request body", BadRequest),
    ("failed to deserialize the json body", BadRequest),
    ("expected request with", BadRequest),
    ("too many pending post requests", TooManyPosts),
    ("cannot track more than", SubscriptionRefused),
    ("already subscribed", SubscriptionRefused),
    ("already unsubscribed", SubscriptionRefused),
    ("invalid subscription", SubscriptionRefused),
    ("error parsing json into valid websocket request", BadRequest),
)


def classify(text: str) -> VenueError:
    """The typed error of a text of the venue; ``Unrecognized`` when this version does not know it."""
    folded = text.casefold()
    kind = next((kind for part, kind in _TEXTS if part in folded), Unrecognized)
    return retryable(kind, text) if issubclass(kind, Retryable) else kind(text)


def retryable(kind: type[Retryable], text: str) -> Retryable:
    """An error of this kind with the delay that its cause asks for."""
    return kind(text, delay_s=_DELAYS_S.get(kind))
