"""What a person writes into a TradingBot: the one model behind the CRD, its documentation and the operator.

The API server checks it by the schema and the rules (``rules.py``) that ``crd.py`` writes from it; the operator checks
it again when it reads a resource (``resource.py``), because a CRD of another version may be installed. Defaults are
those of ``tradingbot.domain``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema
from pydantic.alias_generators import to_camel

from tradingbot.domain.modes import Mode
from tradingbot.domain.params import ExternalPositions, HaltAction, OrderTif
from tradingbot.domain.static import MODEL_STRATEGIES, PLUGIN_PREFIX, STRATEGY_PATTERN, Network, check_host_and_port

MAX_COINS = 64

COIN = "^[A-Za-z0-9][A-Za-z0-9:_@/-]{0,31}$"

Coin = Annotated[str, StringConstraints(pattern=COIN, max_length=32)]
Address = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-fA-F]{40}$", max_length=42)]
_HAS_ADDRESS = AfterValidator(check_host_and_port)
"""The operator's alone: a policy that opens the way to a URL is written from its host and port."""
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^@\s]+$", max_length=512), _HAS_ADDRESS]
WsUrl = Annotated[str, StringConstraints(pattern=r"^wss?://[^@\s]+$", max_length=512), _HAS_ADDRESS]
ObjectName = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", min_length=1, max_length=253)
]
SecretKey = Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", min_length=1, max_length=253)]
_QUANTITY = r"^([0-9]+|[0-9]*\.[0-9]+)(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
StorageSize = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*(Mi|Gi|Ti)$", max_length=16)]
Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    StringConstraints(pattern=_QUANTITY, max_length=32),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "pattern": _QUANTITY, "maxLength": 32}),
]
Fraction = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(gt=0, le=10)]
Cap = Annotated[float, Field(ge=0, le=10)]


class SpecModel(BaseModel):
    """Frozen, named in camelCase in manifests and in snake_case in Python; writers may not add fields."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        populate_by_name=True,
        use_attribute_docstrings=True,
        allow_inf_nan=False,
    )


class DeletionPolicy(StrEnum):
    """What happens to orders and positions when the resource is deleted."""

    CANCEL_ORDERS = "CancelOrders"
    FLATTEN = "Flatten"
    LEAVE = "Leave"


class PrivateKeyRef(SpecModel):
    """A key of a Secret in the bot's namespace that holds an API wallet's private key and nothing else."""

    name: ObjectName
    """The Secret's name."""
    key: SecretKey = "private-key"
    """The key in it."""


class UrlRef(SpecModel):
    """A key of a Secret in the bot's namespace that holds a whole redis:// or rediss:// URL."""

    name: ObjectName
    """The Secret's name."""
    key: SecretKey = "url"
    """The key in it."""


class ApiKeyRef(SpecModel):
    """A key of a Secret in the bot's namespace that holds the language model's key."""

    name: ObjectName
    """The Secret's name."""
    key: SecretKey = "api-key"
    """The key in it."""


class PaperSpec(SpecModel):
    """The paper exchange that is deployed beside a bot on network paper; given there alone."""

    prices: Annotated[str, StringConstraints(pattern=r"^(synthetic(:[0-9]{1,9})?|live)$", max_length=20)] = "synthetic"
    """Where prices come from: synthetic, synthetic:SEED (a seeded generator, labelled as synthetic wherever a price is
    shown) or live (the venue's public data; the pod needs the internet). Cannot be changed."""
    start_equity_usd: Annotated[float, Field(gt=0, le=1_000_000_000)] = 10_000
    """What the account starts with, in USD. Cannot be changed."""
    latency_ms: Annotated[int, Field(ge=0, le=60_000)] = 0
    """Time from a request to its answer, in milliseconds; the venue's median is 200."""
    storage: StorageSize = "1Gi"
    """Size of the volume that keeps its state. Cannot be changed."""


class ExchangeSpec(SpecModel):
    """Which venue is traded on, and as whom."""

    network: Network = Network.PAPER
    """The venue: paper (an exchange of the bot's own, with made-up money), testnet or mainnet. Cannot be changed."""
    paper: PaperSpec | None = None
    account_address: Address | None = None
    """The account that is traded (not the API wallet's address: that one only signs). Needed off paper; on paper the
    operator makes one. Cannot be changed."""
    private_key_secret_ref: PrivateKeyRef | None = None
    """The Secret with the private key of an API wallet of the account. Needed off paper; on paper the operator makes
    one. Mounted into execution's pod alone."""
    vault_address: Address | None = None
    """The sub-account or vault that is traded for, if any; accountAddress is then the same address. Cannot be
    changed."""
    live_trading: bool = False
    """Has to be true before orders go to mainnet: spec.dryRun false alone is not enough."""
    http_url: HttpUrl | None = None
    """The venue's HTTP API, where it is not the network's own (a test against an exchange of yours)."""
    ws_url: WsUrl | None = None
    """The venue's WebSocket, where it is not the network's own."""

    @property
    def paper_settings(self) -> PaperSpec:
        """The paper exchange's settings, with their defaults where none are given."""
        return self.paper or PaperSpec()


class AiSpec(SpecModel):
    """How targets are decided and made steady. A change of smoothAlpha, minConfidence or lowConfidenceScale applies
    from the next cycle; a change of anything else here restarts ai_decision's pod and no other."""

    strategy: Annotated[str, StringConstraints(pattern=STRATEGY_PATTERN, max_length=72)] = "baseline"
    """Who decides: baseline (momentum scaled by volatility), equal, inverse_vol, llm (a language model gives the
    weights), regime (it gives the regime, an optimizer the weights), or plugin:NAME, a strategy of your own that is
    installed in the image."""
    decision_budget_seconds: Annotated[int, Field(ge=1, le=600)] = 12
    """The most time that a decision may take, in seconds, before the baseline decides."""
    smooth_alpha: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Weight of the new target in the moving average: w = alpha·target + (1 − alpha)·previous."""
    min_confidence: Fraction = 0.4
    """Below this confidence gross is scaled down."""
    low_confidence_scale: Fraction = 0.5
    """Gross is multiplied by this when confidence is below minConfidence."""
    endpoint: HttpUrl | None = None
    """Base URL of the language model's OpenAI-compatible API, such as https://api.example.com/v1. Needed by llm and
    regime. A model in the cluster is named NAME.NAMESPACE.svc; one in a private network needs the chart's
    `bots.modelEgress`. With apiKeySecretRef, http:// is refused unless the host is in the cluster (a .svc, or a name
    without a dot) or a loopback or private address."""
    model: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """The language model's name, as the endpoint knows it. Needed by llm and regime."""
    api_key_secret_ref: ApiKeyRef | None = None
    """The Secret with the language model's key, if it needs one. Mounted into ai_decision's pod alone."""
    max_usd_per_day: Annotated[float, Field(ge=0, le=100_000)] = 5
    """USD that may be spent on the model in a UTC day, checked before each call; above it the baseline decides."""
    usd_per_million_tokens_in: Annotated[float, Field(ge=0, le=10_000)] = 3
    """USD for a million tokens of the prompt; 0 for a model of your own. The default is a dear model's price."""
    usd_per_million_tokens_out: Annotated[float, Field(ge=0, le=10_000)] = 15
    """USD for a million tokens of the answer; 0 for a model of your own. The default is a dear model's price."""
    max_tokens: Annotated[int, Field(ge=64, le=32_768)] = 800
    """Tokens of an answer at most."""
    samples: Annotated[int, Field(ge=1, le=7)] = 1
    """How often a decision asks; disagreement of the answers lowers confidence. Each one is paid for."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0
    """The model's sampling temperature; above 0 with several samples, or they agree for no reason."""
    prompt: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$", max_length=32)] = "v1"
    """Version of the prompt: the name of one of the files in the image."""

    @property
    def asks_a_model(self) -> bool:
        """Whether the strategy asks a language model."""
        return self.strategy in MODEL_STRATEGIES

    @property
    def is_plugin(self) -> bool:
        """Whether the strategy is one of a person's own."""
        return self.strategy.startswith(PLUGIN_PREFIX)

    @property
    def may_ask(self) -> bool:
        """Whether the strategy may ask somebody: then its pod is given the model's settings and the way there."""
        return self.asks_a_model or self.is_plugin


class DrawdownSpec(SpecModel):
    """How far equity may fall below its peak, as fractions of the peak."""

    reduce_only: Annotated[float, Field(gt=0, le=1)] = 0.02
    """REDUCE_ONLY while equity is this far below its peak."""
    halt: Annotated[float, Field(gt=0, le=1)] = 0.03
    """A latched HALT when equity is this far below its peak; a person clears it by its id."""


class RiskSpec(SpecModel):
    """The hard limits that every target is cut to; weights are fractions of equity. Applied from the next cycle,
    without a restart."""

    max_gross: Weight = 0.40
    """Σ|w| at most."""
    max_net: Weight = 0.20
    """|Σw| at most; not above maxGross."""
    caps: Annotated[dict[Coin, Cap], Field(max_length=MAX_COINS)] = {"BTC": 0.15, "ETH": 0.15}
    """|w| at most, by coin; none above maxGross."""
    default_cap: Cap = 0.10
    """|w| at most for a coin that caps does not name; not above maxGross."""
    turnover_cap: Weight = 0.10
    """Σ|w_new − w_now| of increases at most, per cycle."""
    drawdown: DrawdownSpec = DrawdownSpec()
    halt_action: HaltAction = HaltAction.HOLD
    """What follows an acknowledged HALT: Hold keeps positions, Flatten closes them."""
    max_daily_fee_bps: Annotated[float, Field(ge=0, le=10_000)] = 50
    """Fees of a UTC day, in basis points of equity, above which the rest of the day is REDUCE_ONLY."""
    allow_short: bool = False
    """Whether negative weights are approved."""
    external_positions: ExternalPositions = ExternalPositions.HOLD
    """What to do with a position that is not the bot's: Hold shows and counts it, Reduce closes it."""


class ExecutionSpec(SpecModel):
    """How targets become orders. Applied from the next cycle, without a restart."""

    slices: Annotated[int, Field(ge=1, le=20)] = 3
    """Slices of a coin's change at most; fewer where a slice would fall below 1.2 times the venue's minimum."""
    slice_interval_seconds: Annotated[int, Field(ge=0, le=3600)] = 20
    """Seconds between the starts of two slices."""
    slice_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 20
    """Seconds after which an open slice is cancelled."""
    price_guard_bps: Annotated[float, Field(ge=0, le=500)] = 20
    """A limit price lies at most this far beyond the mid, in basis points."""
    replace_once: bool = True
    """Whether a slice that timed out is replaced once, nearer to the mid."""
    order_tif: OrderTif = OrderTif.GTC
    """Time in force of a slice: Gtc rests until its time-out, Ioc fills at once or not at all, Alo never takes."""
    max_orders_per_minute: Annotated[int, Field(ge=1, le=1000)] = 30
    """Orders a minute at most; a slice beyond it is skipped and audited."""
    max_cancels_per_minute: Annotated[int, Field(ge=1, le=1000)] = 30
    """Cancels a minute at most; none is held back by it in a HALT."""
    min_rebalance_weight: Fraction = 0.005
    """The no-trade band: a smaller change of weight waits (the close of a whole position does not)."""
    max_price_guard_bps: Annotated[float, Field(ge=0, le=500)] = 50
    """Where the book is thin or its spread wide, a limit price may lie this far beyond the mid, in basis points."""
    thin_book_score: Fraction = 0.5
    """A book whose liquidity score is below this is thin: increases are made smaller, guards wider. 0 turns it off."""
    flatten_guard_bps: Annotated[float, Field(gt=0, le=1000)] = 100
    """How far from the mid a flatten order may fill, in basis points."""


class RedisSpec(SpecModel):
    """The bot's Redis: one of its own, or one of yours by urlSecretRef."""

    storage: StorageSize = "1Gi"
    """Size of the volume of the bot's own Redis. Cannot be changed."""
    retain: bool = False
    """true: the volumes of Redis and of the paper exchange outlive the resource; a later bot takes them over with
    adopt."""
    adopt: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", max_length=36)] | (
        None
    ) = None
    """The uid of a deleted bot (with retain, or on a Redis of yours) whose state this one goes on with. Cannot be
    changed."""
    url_secret_ref: UrlRef | None = None
    """The Secret with the URL of a Redis of yours, instead of one of the bot's own. Only one bot may use one database
    of it. Cannot be added or removed later; the operator's chart must allow it to read this one Secret
    (`redis.urlSecretNames`)."""
    accept_weak_durability: bool = False
    """Trade on mainnet although Redis may lose its last writes in a crash (appendfsync is not always)."""


class ResourcesSpec(SpecModel):
    """A container's requests and limits."""

    requests: Annotated[dict[Annotated[str, StringConstraints(max_length=63)], Quantity], Field(max_length=8)] = {}
    """What the container is sure to get, such as cpu: 50m, memory: 64Mi."""
    limits: Annotated[dict[Annotated[str, StringConstraints(max_length=63)], Quantity], Field(max_length=8)] = {}
    """What the container gets at most."""


class ComponentResources(SpecModel):
    """Requests and limits by component; a component that is not named has the chart's."""

    market_data: ResourcesSpec | None = None
    portfolio_state: ResourcesSpec | None = None
    ai_decision: ResourcesSpec | None = None
    risk_engine: ResourcesSpec | None = None
    execution: ResourcesSpec | None = None
    monitor: ResourcesSpec | None = None
    redis: ResourcesSpec | None = None
    paper: ResourcesSpec | None = None

    def of(self, component: str) -> ResourcesSpec | None:
        """Those of a component such as ``market-data``; None where the chart's count."""
        found: ResourcesSpec | None = getattr(self, component.replace("-", "_"))
        return found


class TradingBotSpec(SpecModel):
    """One bot: what it trades, where, within which limits, and how much it may do now."""

    mode: Mode = Mode.NORMAL
    """How much the bot may do: NORMAL, REDUCE_ONLY (positions shrink, never grow) or HALT (every open order is
    cancelled and none is placed). A breaker or a person may restrict it further."""
    dry_run: bool | None = None
    """true: plans are made and written, nothing is sent. Default: true on testnet and mainnet, false on paper."""
    suspend: bool = False
    """true: HALT and, once that is acknowledged, no pods; Redis' volume, the configuration and Secrets stay."""
    universe: Annotated[tuple[Coin, ...], Field(min_length=1, max_length=MAX_COINS)] = (
        "BTC",
        "ETH",
        "SOL",
        "ADA",
        "DOGE",
    )
    """The coins that are traded, by the venue's names. A change restarts the pods."""
    cycle_seconds: Annotated[int, Field(ge=60, le=86_400, multiple_of=60)] = 60
    """Length of a trading cycle in seconds: a multiple of 60 that divides a day. A change restarts the pods."""
    exchange: ExchangeSpec = ExchangeSpec()
    ai: AiSpec = AiSpec()
    risk: RiskSpec = RiskSpec()
    execution: ExecutionSpec = ExecutionSpec()
    redis: RedisSpec = RedisSpec()
    deletion_policy: DeletionPolicy = DeletionPolicy.CANCEL_ORDERS
    """What happens when the resource is deleted: CancelOrders (HALT, cancel, confirm), Flatten (then close the
    positions too) or Leave (orders and positions stay as they are)."""
    deletion_deadline_seconds: Annotated[int, Field(ge=10, le=3600)] = 300
    """After this many seconds a deletion lets go with a warning event, whatever the venue says."""
    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    """The image of the services, where it is not the operator's own."""
    resources: ComponentResources = ComponentResources()

    @property
    def dry_run_in_force(self) -> bool:
        """``dry_run``, or its default: true off paper."""
        return self.exchange.network is not Network.PAPER if self.dry_run is None else self.dry_run
