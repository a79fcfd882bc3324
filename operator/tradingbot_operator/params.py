"""The part of the spec that is applied live: as ``ctl.params`` holds it."""

from __future__ import annotations

from tradingbot.domain.params import AiParams, ExecutionParams, Params, RiskParams
from tradingbot_operator.spec import AiSpec, ExecutionSpec, RiskSpec, TradingBotSpec


def params_of(spec: TradingBotSpec) -> Params:
    """The parameters of risk, execution and AI that the spec asks for.

    Raises:
        pydantic.ValidationError: a value is out of the domain's range (``resource.parse`` refuses it before).
    """
    return Params(risk=_risk(spec.risk), execution=_execution(spec.execution), ai=_ai(spec.ai))


def _risk(risk: RiskSpec) -> RiskParams:
    return RiskParams(
        max_gross=risk.max_gross,
        max_net=risk.max_net,
        caps=dict(risk.caps),
        default_cap=risk.default_cap,
        turnover_cap=risk.turnover_cap,
        drawdown_reduce_only=risk.drawdown.reduce_only,
        drawdown_halt=risk.drawdown.halt,
        max_daily_fee_bps=risk.max_daily_fee_bps,
        allow_short=risk.allow_short,
        halt_action=risk.halt_action,
        external_positions=risk.external_positions,
    )


def _execution(execution: ExecutionSpec) -> ExecutionParams:
    return ExecutionParams(
        twap_slices=execution.slices,
        slice_interval_s=execution.slice_interval_seconds,
        slice_timeout_s=execution.slice_timeout_seconds,
        px_guard_bps=execution.price_guard_bps,
        order_tif=execution.order_tif,
        replace_once=execution.replace_once,
        max_orders_per_min=execution.max_orders_per_minute,
        max_cancels_per_min=execution.max_cancels_per_minute,
        min_rebalance_weight=execution.min_rebalance_weight,
        max_guard_bps=execution.max_price_guard_bps,
        thin_book_score=execution.thin_book_score,
        flatten_guard_bps=execution.flatten_guard_bps,
    )


def _ai(ai: AiSpec) -> AiParams:
    return AiParams(
        smooth_alpha=ai.smooth_alpha, min_confidence=ai.min_confidence, low_conf_scale=ai.low_confidence_scale
    )
