"""What must hold before the first order: pure judgements, each with a text that tells a person what to do.

``failed`` means that no order may be sent; ``warning`` means that trading works, but not as well or as safely as it
could; the text of either names the cure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum

from tradingbot.bus.library import ServerFacts
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.params import Params
from tradingbot.domain.static import Network
from tradingbot.runtime.clock import guard_against_real_slowness
from tradingbot.venue.models import Account, ActiveAsset, ExtraAgent, UserRateLimit, UserRole
from tradingbot.venue.precision import MIN_NOTIONAL_USD, AssetSpec

SLICE_MARGIN = Decimal("1.2")
"""A slice is planned only at this multiple of the venue's minimum (the planner's rule)."""
MAX_SKEW_MS = 1000
MAX_SKEW_REAL_MS = 250
EXPIRY_WARNING_MS = 7 * 86_400_000
LOW_ACTIONS = 1000
MINUTES_OF_A_DAY = 1440
NEEDED_IP_WEIGHT = 450
"""What the polls of one bot take per minute: mids 60, reconciliation 264, order states and candles the rest."""

STREAMS_ACL_FIX: Mapping[tuple[int, int], int] = {(7, 2): 16, (7, 4): 11, (8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2}
"""Redis release line -> the first patch in which XREAD and XREADGROUP check every key against the ACL."""
STREAMS_ACL_FIXED_SINCE = (8, 10)

ALLOWED_ACCOUNT_MODES = frozenset({"default", "disabled"})


class Verdict(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    verdict: Verdict
    text: str


def ok(name: str, text: str) -> Check:
    """A check that holds."""
    return Check(name, Verdict.OK, text)


def warning(name: str, text: str) -> Check:
    """A check that holds, but."""
    return Check(name, Verdict.WARNING, text)


def failed(name: str, text: str) -> Check:
    """A check that forbids trading."""
    return Check(name, Verdict.FAILED, text)


def judge_identity(kept: str | None, ours: str) -> Check:
    """This Redis holds this bot's state and no other's."""
    if kept is None:
        return ok("identity", "this Redis holds no bot yet")
    if kept == ours:
        return ok("identity", "this Redis holds this bot's state")
    return failed(
        "identity", f"this Redis belongs to {kept}, not to {ours}: use another REDIS_URL, or adopt its bot id"
    )


def judge_universe(universe: Sequence[str], specs: Mapping[str, AssetSpec], network: Network) -> Check:
    """Every coin is there and can be traded on this network."""
    missing = [symbol for symbol in universe if symbol not in specs]
    delisted = [symbol for symbol in universe if symbol in specs and specs[symbol].delisted]
    if missing:
        return failed(
            "network", f"{network.value} has no {', '.join(missing)}: correct UNIVERSE, or HL_NETWORK if it is wrong"
        )
    if delisted:
        return warning("network", f"{', '.join(delisted)} delisted: take out of UNIVERSE; positions are only reduced")
    return ok("network", f"{network.value} answers and has all {len(universe)} coins")


def judge_account_address(account: Account, role: UserRole, address: str) -> Check:
    """The address is an account that holds money, not an API wallet."""
    if role.role == "agent":
        return failed(
            "account", f"{address} is an API wallet: set HL_ACCOUNT_ADDRESS to the account it signs for, {role.master}"
        )
    if role.role == "missing" or account.equity <= 0:
        return failed("account", f"{address} holds nothing on this network: deposit, or correct HL_ACCOUNT_ADDRESS")
    return ok("account", f"equity {account.equity:.2f} USD, {account.withdrawable:.2f} USD of it free")


def judge_key(role: UserRole, *, signer: str, account: str, network: Network) -> Check:
    """The key may sign for the account, and for nothing more than trading."""
    if role.role == "agent":
        if role.master == account.lower():
            return ok("key", f"{signer} is an API wallet of the account")
        return failed("key", f"{signer} is an API wallet of {role.master}, not of {account}: use this account's key")
    if signer == account.lower():
        if network is Network.PAPER:
            return ok("key", "the account's own key; fine on the paper exchange")
        return failed("key", "this is the account's own key, which can withdraw: make an API wallet and use its key")
    return failed(
        "key",
        f"{signer} may not sign for {account} on {network.value}: approve it there as an API wallet "
        "(an expired or removed one must be made anew), or correct HL_NETWORK",
    )


def judge_vault_key(
    role: UserRole, owner: UserRole, *, signer: str, account: str, vault: str, network: Network
) -> Check:
    """The key may sign for a vault or sub-account, which is traded in its leader's name.

    Args:
        role: what the signer is to the venue.
        owner: what the traded account is to the venue.
        signer: the key's address.
        account: the account that is traded.
        vault: the address that the signature names.
        network: where.
    """
    if vault.lower() != account.lower():
        return failed(
            "key",
            f"orders would be for {vault} but {account} is read: set both to the vault's or sub-account's address",
        )
    if owner.role not in ("subAccount", "vault"):
        return failed("key", f"{vault} is no vault and no sub-account on {network.value}: leave HL_VAULT_ADDRESS empty")
    if owner.master is None:
        if role.role != "agent":
            return judge_key(role, signer=signer, account=account, network=network)
        return warning(
            "key",
            f"{signer} is an API wallet of {role.master}; the venue does not tell whether that account leads {vault}: "
            "make sure of it, or every order is refused",
        )
    return judge_key(role, signer=signer, account=owner.master, network=network)


def judge_key_expiry(agents: Sequence[ExtraAgent], *, signer: str, now_ms: int, network: Network) -> Check:
    """The API wallet stays valid for some days."""
    named = next((agent for agent in agents if agent.address == signer), None)
    if named is None:
        verdict = ok if network is Network.PAPER else warning
        return verdict(
            "key_expiry", "the venue does not tell when an unnamed API wallet expires: note the day, or use a named one"
        )
    if named.valid_until_ms is None:
        return ok("key_expiry", f"API wallet {named.name} has no end")
    until = f"{from_ms(named.valid_until_ms):%Y-%m-%d %H:%M} UTC"
    if named.valid_until_ms <= now_ms:
        return failed("key_expiry", f"API wallet {named.name} expired on {until}: make a new one, with a new key")
    if named.valid_until_ms - now_ms < EXPIRY_WARNING_MS:
        return warning(
            "key_expiry", f"API wallet {named.name} expires on {until}: make a new one, with a new key, soon"
        )
    return ok("key_expiry", f"API wallet {named.name} is valid until {until}")


def judge_account_mode(mode: str) -> Check:
    """The account's figures mean what the bot takes them for."""
    if mode in ALLOWED_ACCOUNT_MODES:
        return ok("account_mode", f"account mode {mode}")
    return failed(
        "account_mode",
        f"account mode {mode}: its equity and margin are not what the bot reads; "
        "set the account to the default mode on the venue's page",
    )


def wanted_leverage(params: Params, spec: AssetSpec) -> int:
    """The least leverage at which positions and as many open orders again fit into the margin: ⌈2·max_gross⌉."""
    needed = int((Decimal(str(params.risk.max_gross)) * 2).to_integral_value(rounding=ROUND_CEILING))
    return max(1, min(needed, spec.max_leverage))


def needs_setting(asset: ActiveAsset, params: Params, spec: AssetSpec) -> bool:
    """True when leverage or margin mode differs from what the bot wants."""
    return asset.leverage != wanted_leverage(params, spec) or asset.is_cross is spec.only_isolated


def judge_leverage(
    asset: ActiveAsset, params: Params, spec: AssetSpec, *, refusal: str = "", apply: bool = True
) -> Check:
    """Leverage and margin mode of a coin as read back.

    Args:
        asset: what the venue says after setting.
        params: the limits in force.
        spec: the coin.
        refusal: the venue's text when it refused the setting.
        apply: whether setting was allowed to this caller.
    """
    name = f"leverage:{asset.symbol}"
    wanted, cross = wanted_leverage(params, spec), not spec.only_isolated
    shown = f"{'cross' if asset.is_cross else 'isolated'} {asset.leverage}x"
    aim = f"{'cross' if cross else 'isolated'} {wanted}x"
    if not needs_setting(asset, params, spec):
        return ok(name, shown)
    if not apply:
        return warning(name, f"{shown}; execution sets {aim} when it starts")
    why = f" ({refusal})" if refusal else ""
    if asset.is_cross is not cross:
        return failed(name, f"{shown} instead of {aim}{why}: close the position or set it on the venue's page")
    if asset.leverage < wanted:
        return failed(name, f"{shown} instead of {aim}{why}: orders would lack margin; set it on the venue's page")
    return warning(name, f"{shown} instead of {aim}{why}: the caps still hold; set it when the position is closed")


def judge_balance(
    account: Account,
    params: Params,
    *,
    specs: Mapping[str, AssetSpec],
    mids: Mapping[str, Decimal],
    universe: Sequence[str],
) -> Check:
    """Each coin's cap is worth at least one slice of the venue's minimum."""
    small = {
        symbol: least for symbol in universe if (least := _least_equity(symbol, params, specs, mids)) > account.equity
    }
    if not small:
        return ok("balance", f"{account.equity:.2f} USD is enough for a slice of every coin")
    needs = ", ".join(f"{symbol} from {least:.0f} USD" for symbol, least in small.items())
    text = f"with {account.equity:.2f} USD these caps are below the venue's smallest order: {needs}; "
    cure = "deposit, raise the caps, or take them out of UNIVERSE"
    return (failed if len(small) == len(universe) else warning)("balance", text + cure)


def _least_equity(symbol: str, params: Params, specs: Mapping[str, AssetSpec], mids: Mapping[str, Decimal]) -> Decimal:
    """The equity from which a coin's cap allows a slice; 0 for a coin that cannot be judged here."""
    cap = Decimal(str(min(params.risk.cap(symbol), params.risk.max_gross)))
    if symbol not in specs or symbol not in mids or cap == 0:
        return Decimal(0)
    lot = Decimal(1).scaleb(-specs[symbol].sz_decimals) * mids[symbol]
    return max(MIN_NOTIONAL_USD * SLICE_MARGIN, lot) / cap


def judge_clock(skew_ms: int, *, speed: float = 1.0) -> Check:
    """The venue's clock and ours agree; virtual milliseconds."""
    limit_ms = guard_against_real_slowness(value_ms=MAX_SKEW_MS, real_ms=MAX_SKEW_REAL_MS, speed=speed)
    text = f"the venue's clock is {abs(skew_ms)} ms {'ahead of' if skew_ms >= 0 else 'behind'} ours"
    if abs(skew_ms) >= limit_ms:
        return failed("clock", f"{text}, {limit_ms} ms at most: synchronise this machine's clock (NTP)")
    if abs(skew_ms) >= limit_ms / 2:
        return warning("clock", f"{text}; from {limit_ms} ms on trading stops: synchronise this machine's clock (NTP)")
    return ok("clock", text)


def judge_action_budget(limit: UserRateLimit, params: Params) -> Check:
    """The account may still send actions: one per dollar traded, plus the start buffer."""
    if limit.left <= 0:
        return failed(
            "action_budget",
            f"the account used {limit.used} of {limit.cap} actions: only one per 10 s until it trades more "
            "(1 USD traded = 1 action); buy request weight or wait",
        )
    a_day = params.execution.max_orders_per_min * MINUTES_OF_A_DAY
    if limit.left < LOW_ACTIONS:
        return warning("action_budget", f"{limit.left} actions left: lower MAX_ORDERS_PER_MIN, or buy request weight")
    return ok("action_budget", f"{limit.left} actions left; at MAX_ORDERS_PER_MIN a day would use {a_day} at most")


def judge_ip_budget(ip_weight_per_min: int) -> Check:
    """This bot's share of the address's request weight covers its polls."""
    if ip_weight_per_min < NEEDED_IP_WEIGHT:
        return warning(
            "ip_budget",
            f"{ip_weight_per_min} weight a minute, but the polls want about {NEEDED_IP_WEIGHT} and are stretched: "
            "raise IP_WEIGHT_PER_MIN, or run fewer bots behind this address",
        )
    return ok("ip_budget", f"{ip_weight_per_min} weight a minute")


def judge_durability(server: ServerFacts, *, network: Network, accept_weak: bool) -> Check:
    """What Redis has acknowledged survives a crash of its machine."""
    if server.maxmemory_policy != "noeviction":
        return failed(
            "durability",
            f"maxmemory-policy is {server.maxmemory_policy}: set noeviction, or orders' records may vanish",
        )
    if server.durable:
        return ok("durability", "every write is on disk before it is acknowledged")
    state = f"appendonly {'yes' if server.appendonly else 'no'}, appendfsync {server.appendfsync or 'not readable'}"
    cure = "set appendonly yes and appendfsync always"
    if network is Network.MAINNET and not accept_weak:
        return failed("durability", f"{state}: {cure}, or accept the risk with redis.acceptWeakDurability")
    return warning("durability", f"{state}: an acknowledged write may be lost in a crash; {cure}")


def judge_server_version(server: ServerFacts) -> Check:
    """The server checks stream reads against its ACL."""
    version = ".".join(str(part) for part in server.version)
    if server.software != "redis":
        return ok("server_version", f"{server.software} {version}")
    line, patch = server.version[:2], server.version[2] if len(server.version) > 2 else 0
    fixed_at = STREAMS_ACL_FIX.get((line[0], line[1]))
    if line >= STREAMS_ACL_FIXED_SINCE or (fixed_at is not None and patch >= fixed_at):
        return ok("server_version", f"redis {version}")
    return warning(
        "server_version",
        f"redis {version}: XREAD and XREADGROUP may read keys that their ACL forbids; "
        "use 7.2.16, 7.4.11, 8.2.9, 8.4.6, 8.6.6, 8.8.2, 8.10 or newer",
    )
