"""ai_decision's own settings: who decides, and the language model that it may ask.

No other process is given any of them: the model's key is a secret, and a change of strategy is to restart nothing else.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import MODEL_STRATEGIES, HttpUrl, StrategyName
from tradingbot.runtime.settings import ServiceSettings


class ApiKeyUnreadable(Permanent):
    """The file with the model's key cannot be used; its content is never shown."""


def _check_endpoint(url: str) -> str:
    if "@" in url:
        raise ValueError("must not hold a password: give the key as AI_LLM_API_KEY_FILE")
    return url


def _is_public(url: str) -> bool:
    """Whether a URL leads out of this machine, its cluster and private networks, as far as its host tells."""
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        if not host.isascii():  # what it is looked up as may have dots and digits that it does not show
            return True
        inside = host.endswith((".svc", ".svc.cluster.local"))
        return not inside and ("." in host or not host[:1].isalpha())  # a number is an address too
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return not (mapped or address).is_private


def _check_file(path: Path) -> Path:
    if not path.is_file():
        raise ValueError("must be a file that exists and holds the model's key")
    return path


class AiDecisionSettings(ServiceSettings):
    """What ai_decision adds to the settings that every service shares."""

    ai_use_llm: bool | None = None
    """true is short for AI_STRATEGY=llm; false says that no language model may be asked, so that llm and regime are
    refused. Default: empty, AI_STRATEGY alone decides."""

    ai_strategy: StrategyName = Field(default_factory=lambda seen: "llm" if seen.get("ai_use_llm") else "baseline")
    """Who decides: baseline (momentum over volatility), equal, inverse_vol, llm (a language model gives the weights),
    regime (it gives the regime, an optimizer the weights), or plugin:NAME, a strategy of your own that is installed
    under the entry point tradingbot.strategies. Default baseline: it needs nobody. docs/strategies.md"""

    decision_budget_s: Annotated[float, Field(ge=1, le=600)] = 12
    """Real seconds that a decision may take in all; then the baseline decides. Where the bot's clock runs faster, at
    most a third of a cycle's real length. Default 12: well within a cycle of a minute, and before orders would start
    late."""

    decision_wait_s: Annotated[float, Field(ge=0, le=12)] = 3
    """Real seconds that a decision waits for a state snapshot or parameters that are not there yet, as in the first
    moments of a start; part of DECISION_BUDGET_S. Default 3."""

    ai_llm_endpoint: Annotated[HttpUrl, AfterValidator(_check_endpoint)] | None = None
    """Base URL of an OpenAI-compatible API, such as https://api.example.com/v1; /chat/completions is added to it.
    Needed by llm and regime. With a key, http:// is refused unless the host is loopback, a private address, a name
    without a dot or a .svc of the cluster."""

    ai_llm_model: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """The language model's name, as the endpoint knows it. Needed by llm and regime."""

    ai_llm_api_key: SecretStr | None = Field(default=None, repr=False)
    """The endpoint's key. Prefer AI_LLM_API_KEY_FILE: an environment is easier to read than a file. Default: none,
    for a model of your own."""

    ai_llm_api_key_file: Annotated[Path, AfterValidator(_check_file)] | None = None
    """A file that holds the key and nothing else; read at each call, so that a rotated key counts at once."""

    ai_llm_max_usd_per_day: Annotated[float, Field(ge=0, le=100_000)] = 5
    """USD that may be spent on the model in a UTC day, checked before each call; above it the baseline decides.
    The day is the bot's: where its clock runs faster, the cap of such a day is divided by the speed. Default 5."""

    ai_llm_usd_per_mtok_in: Annotated[float, Field(ge=0, le=10_000)] = 3
    """USD for a million tokens of the prompt. Default 3, a dear model's price, so that the cap holds for whoever
    forgets to set it; 0 for a model of your own."""

    ai_llm_usd_per_mtok_out: Annotated[float, Field(ge=0, le=10_000)] = 15
    """USD for a million tokens of the answer. Default 15, a dear model's price; 0 for a model of your own."""

    ai_llm_max_tokens: Annotated[int, Field(ge=64, le=32_768)] = 800
    """Tokens of an answer at most. Default 800: the weights of twenty coins and a sentence."""

    ai_llm_samples: Annotated[int, Field(ge=1, le=7)] = 1
    """How often a decision asks. More than once measures how far the answers agree, and disagreement lowers
    confidence; each one is paid for. Default 1."""

    ai_llm_temperature: Annotated[float, Field(ge=0, le=2)] = 0
    """The model's sampling temperature. Default 0: the answer that it holds most likely; with several samples use more
    than 0, or they will agree for no reason."""

    ai_llm_prompt: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")] = "v1"
    """Version of the prompt: the name of one of the files that come with this version. Default v1."""

    ai_llm_attempts: Annotated[int, Field(ge=1, le=5)] = 2
    """How often a call that failed is made, within the budget. Default 2: one retry."""

    ai_llm_max_response_bytes: Annotated[int, Field(ge=1024, le=10_000_000)] = 65_536
    """Bytes of a response at most; more are not read. Default 65,536: twenty times a long answer."""

    ai_llm_circuit_failures: Annotated[int, Field(ge=1, le=100)] = 5
    """Failed decisions in a row after which the model is left alone for a while. Default 5."""

    ai_llm_circuit_open_s: Annotated[float, Field(ge=1, le=86_400)] = 300
    """Real seconds for which the model is left alone then; after them one decision tries it. Default 300."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.ai_use_llm and self.ai_strategy != "llm":
            raise ValueError(
                f"one contradicts the other: AI_USE_LLM=true means AI_STRATEGY=llm, but it is {self.ai_strategy}"
            )
        if self.ai_use_llm is False and self.asks_a_model:
            raise ValueError(
                f"one contradicts the other: AI_USE_LLM=false, but AI_STRATEGY={self.ai_strategy} asks a language model"
            )
        if self.decision_budget_s >= self.cycle_seconds:
            raise ValueError("a decision must fit into its cycle: DECISION_BUDGET_S must be below CYCLE_SECONDS")
        if self.ai_llm_api_key is not None and self.ai_llm_api_key_file is not None:
            raise ValueError("give one of AI_LLM_API_KEY and AI_LLM_API_KEY_FILE, not both")
        if self._shows_the_key:
            raise ValueError(
                "AI_LLM_ENDPOINT is http:// at a public host, which shows the key on the way: use https://"
            )
        if self.asks_a_model and (self.ai_llm_endpoint is None or self.ai_llm_model is None):
            raise ValueError(
                f"whom to ask, AI_LLM_ENDPOINT and AI_LLM_MODEL, is needed with AI_STRATEGY={self.ai_strategy}"
            )
        return self

    @property
    def asks_a_model(self) -> bool:
        """Whether the strategy asks a language model."""
        return self.ai_strategy in MODEL_STRATEGIES

    @property
    def _shows_the_key(self) -> bool:
        keyed = self.ai_llm_api_key is not None or self.ai_llm_api_key_file is not None
        url = self.ai_llm_endpoint
        return keyed and url is not None and urlsplit(url).scheme == "http" and _is_public(url)

    def llm_api_key(self) -> SecretStr | None:
        """The model's key, read now; None when the endpoint needs none.

        Raises:
            ApiKeyUnreadable: the file is gone or empty.
        """
        if self.ai_llm_api_key_file is None:
            return self.ai_llm_api_key
        try:
            key = self.ai_llm_api_key_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ApiKeyUnreadable(f"{self.ai_llm_api_key_file}: {type(error).__name__}") from None
        if not key:
            raise ApiKeyUnreadable(f"{self.ai_llm_api_key_file} is empty")
        return SecretStr(key)
