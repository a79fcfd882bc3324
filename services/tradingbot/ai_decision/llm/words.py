"""Whether a model's words contradict its weights: a small grammar that takes only plain statements as such.

A statement is one verb of trading, at most four words that change nothing, and one coin or a list of them:
"sell BTC", "reducing our exposure to ETH and SOL", "buy some more DOGE". Its meaning:

* buy, buying, accumulate, …: the signed weight is not to fall;
* sell, selling: the signed weight is not to rise;
* increase, add, raise, …: |weight| is not to fall;
* close, exit, reduce, trim, cut, liquidate, …: |weight| is not to rise.

Changes up to ``MOVE`` count as none. What is negated, conditional or past in its sentence ("do not sell BTC", "would
buy ETH if") is no statement; nor is a verb before a word of the market ("closing BTC price", "selling pressure on
BTC"). So a rationale in other words, or in another language, is not judged: this finds an answer whose two halves
were not made together, it does not understand text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Final

MOVE: Final = 0.005
"""Of equity; a smaller change of weight is none."""


class Meaning(Enum):
    """What a verb says of a weight."""

    BUY = "buy"
    SELL = "sell"
    GROW = "increase"
    SHRINK = "reduce"


_VERBS: Final[Mapping[Meaning, str]] = {
    Meaning.BUY: r"buy|buying|accumulate|accumulating",
    Meaning.SELL: r"sell|selling",
    Meaning.GROW: r"increase|increasing|add|adding|raise|raising|enlarge|enlarging",
    Meaning.SHRINK: r"close|closing|exit|exiting|reduce|reducing|trim|trimming|cut|cutting|decrease|decreasing"
    r"|liquidate|liquidating",
}
_FILLER: Final = (
    r"(?:the|our|my|your|a|an|all|some|more|most|half|of|out|to|into|back|entire|whole|full|present|current|existing"
    r"|small|large|long|short|position|positions|exposure|exposures|holding|holdings|allocation|weight|weights|stake"
    r"|(?<=exposure )in|(?<=position )in|(?<=positions )in)"
)
_MARKET: Final = r"price|prices|volatility|momentum|correlation|volume|pressure|risk|spread|trend|dominance|return"
_NO_STATEMENT: Final = re.compile(
    r"\b(?:not|no|never|without|avoid|avoiding|instead|rather|if|unless|until|when|would|could|might|may|cannot|can't"
    r"|don't|won't|shouldn't|isn't|aren't|wait|later|earlier|previously|tempting|too early)\b",
    re.IGNORECASE,
)
_SENTENCE: Final = re.compile(r"[.;:!?]+(?: |$)|,? (?:but|while|whereas|although|though)\b", re.IGNORECASE)
_NAMES: Final[Mapping[str, str]] = {"BTC": "bitcoin", "ETH": "ethereum|ether", "SOL": "solana", "DOGE": "dogecoin"}


def contradictions(text: str, weights: Mapping[str, float], *, present: Mapping[str, float]) -> list[str]:
    """Each statement that the change from the present weights to these contradicts, in a person's words."""
    found = []
    for meaning, symbol in statements(text, tuple(weights)):
        now, then = present.get(symbol, 0.0), weights[symbol]
        if _moves_against(meaning, now, then):
            found.append(f"the text says {meaning.value} {symbol}, the weight goes from {now:.4g} to {then:.4g}")
    return list(dict.fromkeys(found))


def statements(text: str, symbols: tuple[str, ...]) -> Iterator[tuple[Meaning, str]]:
    """Every plain statement about a coin."""
    if not symbols:
        return
    coins = {symbol: re.compile(rf"\b{_spellings(symbol)}\b", re.IGNORECASE) for symbol in symbols}
    coin = "|".join(_spellings(symbol) for symbol in symbols)
    listed = rf"(?:{coin})(?:(?:\s*,\s*and\s+|\s*,\s*|\s+and\s+|\s*/\s*|\s*&\s*)(?:{coin}))*"
    for sentence in _sentences(text):
        if _NO_STATEMENT.search(sentence):
            continue
        for meaning, verbs in _VERBS.items():
            pattern = rf"\b(?:{verbs})\s+(?:{_FILLER}\s+){{0,4}}({listed})\b(?!\s+(?:{_MARKET})\b)"
            for match in re.finditer(pattern, sentence, re.IGNORECASE):
                yield from ((meaning, symbol) for symbol, named in coins.items() if named.search(match[1]))


def _sentences(text: str) -> Iterator[str]:
    for line in text.splitlines():
        yield from _SENTENCE.split(" ".join(line.split()))  # single spaces keep the patterns' work linear


def _spellings(symbol: str) -> str:
    return rf"(?:{re.escape(symbol)}{'|' + _NAMES[symbol] if symbol in _NAMES else ''})"


def _moves_against(meaning: Meaning, now: float, then: float) -> bool:
    match meaning:
        case Meaning.BUY:
            return then < now - MOVE
        case Meaning.SELL:
            return then > now + MOVE
        case Meaning.GROW:
            return abs(then) < abs(now) - MOVE
        case Meaning.SHRINK:
            return abs(then) > abs(now) + MOVE
