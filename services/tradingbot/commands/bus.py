"""``tradingbot ctl``, ``dlq`` and ``audit``: what a person says to a running bot, and reads of it."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from redis.exceptions import NoPermissionError

from tradingbot.bus.client import BLOCK_MS
from tradingbot.bus.control import Applied, issue, read_applied, read_modes
from tradingbot.bus.dead_letters import drop_dead_letter, list_dead_letters, retry_dead_letter, show_dead_letter
from tradingbot.bus.errors import bus_errors
from tradingbot.bus.names import PAYLOAD_FIELD, Key, Stream
from tradingbot.bus.params import read_params, write_person_params
from tradingbot.commands.config import AsJson, EnvFile, find_env_file
from tradingbot.commands.local import DataDir
from tradingbot.domain.audit_words import audit_line
from tradingbot.domain.cycles import from_ms
from tradingbot.domain.envelope import Message
from tradingbot.domain.errors import Permanent, Temporary
from tradingbot.domain.messages import AuditRecord, Command, ControlCommand, StateSnapshot
from tradingbot.domain.modes import Mode, ModeSource
from tradingbot.local.access import Access, NoBot, find_bot
from tradingbot.local.environment import read_environment
from tradingbot.runtime.clock import Ids

ctl = typer.Typer(no_args_is_help=True, help="Halt, resume, change parameters, see what is in force.")
dlq = typer.Typer(no_args_is_help=True, help="Look at messages that could not be handled; retry or drop them.")

Reason = Annotated[str, typer.Argument(help="Why, for the record.")]
UntilGeneration = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="End by itself when the resource's mode of generation N has reached the bus.",
    ),
]
Wait = Annotated[bool, typer.Option("--wait", help="Return when execution has acknowledged it.")]
Patience = Annotated[float, typer.Option("--timeout", min=0, help="How many seconds to wait for that at most.")]
SaidBy = Annotated[str, typer.Option("--by", help="Who says it, for the record. Default: this account's name.")]
_PROMISES = {
    Command.HALT: "no order is open, and none can come any more",
    Command.REDUCE_ONLY: "no order that could grow a position is open, and none can come any more",
}
ACK_TIMEOUT_S = 20.0
_POLL_S = 0.05


class BadInput(Permanent):
    """What was typed cannot be used."""


class NoSnapshot(Temporary):
    """The mirror of the venue is not there, or too old to be shown."""


class NotAcknowledged(Permanent):
    """The command is written, and execution has not said that it is applied."""


@asynccontextmanager
async def _bot(data_dir: Path | None, env_file: Path | None, *, operator: bool = False) -> AsyncIterator[Access]:
    given = read_environment(find_env_file(env_file), os.environ)
    access = find_bot(data_dir=data_dir, given=given, operator=operator)
    async with access.redis:
        yield access


def _command(command: Command, reason: str = "", *, by: str = "", **more: Any) -> ControlCommand:
    return ControlCommand(
        command=command,
        command_id=Ids().uuid(),
        source=ModeSource.PERSON,
        reason=reason,
        issued_by=by or getpass.getuser(),
        **more,
    )


async def _issue(access: Access, command: ControlCommand) -> None:
    await issue(access.redis, command, now_ms=access.clock.now_ms(), bot_id=await _bot_id(access))


async def _bot_id(access: Access) -> str:
    """The bus's bot; before anybody has used the bus the one that the environment names, as in a service's pod."""
    try:
        return await access.bot_id()
    except NoBot:
        if named := os.environ.get("BOT_ID"):
            return named
        raise


@ctl.command("halt")
def halt(
    reason: Reason = "",
    *,
    timeout_s: Patience = ACK_TIMEOUT_S,
    until_generation: UntilGeneration = None,
    by: SaidBy = "",
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Cancel every open order and place none; waits until execution says that nothing can come any more."""
    said = _command(Command.HALT, reason, by=by, until_generation=until_generation)
    _run(_mode(said, data_dir, env_file, wait_s=timeout_s))


@ctl.command("reduce-only")
def reduce_only(
    reason: Reason = "",
    *,
    wait: Wait = False,
    timeout_s: Patience = ACK_TIMEOUT_S,
    until_generation: UntilGeneration = None,
    by: SaidBy = "",
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Let positions shrink, never grow."""
    said = _command(Command.REDUCE_ONLY, reason, by=by, until_generation=until_generation)
    _run(_mode(said, data_dir, env_file, wait_s=timeout_s if wait else None))


@ctl.command("resume")
def resume(reason: Reason = "", *, by: SaidBy = "", data_dir: DataDir = None, env_file: EnvFile = None) -> None:
    """Lift your own halt or reduce-only; those of the breaker and of the resource stay."""
    _run(_mode(_command(Command.RESUME, reason, by=by), data_dir, env_file))


async def _mode(
    said: ControlCommand, data_dir: Path | None, env_file: Path | None, *, wait_s: float | None = None
) -> None:
    async with _bot(data_dir, env_file) as access:
        started_s, issued_ms = access.clock.real_s(), access.clock.now_ms()
        await _issue(access, said)
        mode = await read_modes(access.redis)
        typer.echo(f"mode {mode.mode} by {mode.source}{f': {mode.reason}' if mode.reason else ''}")
        if wait_s is not None:
            await _until_acknowledged(access, said, started_s=started_s, issued_ms=issued_ms, wait_s=wait_s)


async def _until_acknowledged(
    access: Access, said: ControlCommand, *, started_s: float, issued_ms: int, wait_s: float
) -> None:
    """Wait for the acknowledgement of this very command: that of an earlier HALT may still stand there."""
    deadline_s = access.clock.real_s() + wait_s
    while access.clock.real_s() < deadline_s:
        applied = await read_applied(access.redis)
        if applied is not None and _acknowledges(applied, said, issued_ms=issued_ms):
            took_s = access.clock.real_s() - started_s
            typer.echo(f"acknowledged after {took_s:.2f} s: {_PROMISES[said.command]}")
            return
        await access.clock.sleep_real(_POLL_S)
    raise NotAcknowledged(
        f"{said.command} is written, but execution has not acknowledged it within {wait_s:g} s: `tradingbot ctl status`"
    )


def _acknowledges(applied: Applied, said: ControlCommand, *, issued_ms: int) -> bool:
    """Whether execution's stamps are about this command, or about the spec's own, to which it gives way."""
    if applied.mode.rank < Mode(said.command).rank or applied.acked_at is None:
        return False
    gave_way = said.until_generation is not None and (applied.spec_generation or 0) >= said.until_generation
    return gave_way or applied.command_id == said.command_id or (applied.received_at or 0) >= issued_ms


@ctl.command("set")
def set_parameter(
    name: Annotated[str, typer.Argument(help="Dotted, such as risk.max_gross; docs/settings.md lists them.")],
    value: Annotated[str, typer.Argument(help="The new value; `default` takes your override back.")],
    *,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Override one parameter from the next cycle on, until the bot's own parameters change."""
    _run(_set(name, value, data_dir, env_file))


async def _set(name: str, value: str, data_dir: Path | None, env_file: Path | None) -> None:
    async with _bot(data_dir, env_file) as access:
        try:
            after = await write_person_params(access.redis, {name: None if value == "default" else value})
        except ValidationError as error:
            raise BadInput("\n".join(f"{name}: {each['msg']}; was {value!r}" for each in error.errors())) from None
        except ValueError as error:
            raise BadInput(str(error)) from None
        except NoPermissionError:
            raise BadInput(
                f"{name}: this user may not set parameters; change the resource (docs/modes.md names the other way)"
            ) from None
        await _issue(access, _command(Command.SET, values={name: value}))
        typer.echo(f"{name} = {value} from the next cycle on (parameters {after.label})")


@ctl.command("clear-breaker")
def clear_breaker(
    latch_id: Annotated[str, typer.Argument(metavar="ID", help="The latch, as `ctl status` names it.")],
    reason: Reason = "",
    *,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Clear a latched breaker by its id; the drawdown's peak becomes present equity."""
    _run(_clear(latch_id, reason, data_dir, env_file))


async def _clear(latch_id: str, reason: str, data_dir: Path | None, env_file: Path | None) -> None:
    async with _bot(data_dir, env_file) as access:
        kept = await _latch(access)
        if kept != latch_id:
            raise BadInput(f"{latch_id}: no such latch; {f'the latched one is {kept}' if kept else 'none is latched'}")
        await _issue(access, _command(Command.CLEAR_BREAKER, reason, breaker_id=latch_id))
        typer.echo(f"asked to clear {latch_id}: `tradingbot ctl status` shows when the breaker has gone")


async def _latch(access: Access) -> str:
    with bus_errors():
        found: Any = await access.redis.hget(Key.MODE_BREAKER, "latch_id")
    return found or ""


@ctl.command("status")
def status(*, as_json: AsJson = False, data_dir: DataDir = None, env_file: EnvFile = None) -> None:
    """Show the mode, who asked for it, what execution has applied, and the parameters in force."""
    _run(_status(as_json, data_dir, env_file))


async def _status(as_json: bool, data_dir: Path | None, env_file: Path | None) -> None:  # noqa: FBT001
    async with _bot(data_dir, env_file) as access:
        mode, applied, params = (
            await read_modes(access.redis),
            await read_applied(access.redis),
            await read_params(access.redis),
        )
        facts: dict[str, Any] = {
            "mode": mode.mode.value,
            "source": mode.source.value,
            "reason": mode.reason,
            "latch": await _latch(access),
            "now": from_ms(access.clock.now_ms()).isoformat(timespec="seconds"),
            "prices": access.static.price_source.value,
            "network": access.static.hl_network.value,
            "dry_run": access.static.dry_run,
            "parameters": params.label if params else None,
            "monitor": access.running.monitor_url if access.running else None,
        }
        facts["applied"] = None if applied is None else {
            "mode": applied.mode.value,
            "received_at": applied.received_at,
            "cancelled_at": applied.cancelled_at,
            "acked_at": applied.acked_at,
            "open_orders": applied.open_orders,
            "flatten": applied.flatten,
        }  # fmt: skip
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        shown = _in_a_line(value) if isinstance(value, dict) else value
        typer.echo(f"{name:<12}{'—' if shown in {None, ''} else shown}")


def _in_a_line(facts: dict[str, Any]) -> str:
    """What there is to say, moments as times of day."""
    said = {name: value for name, value in facts.items() if value not in {None, ""}}
    moments = {name: f"{from_ms(at_ms):%H:%M:%S.%f}"[:-3] + "Z" for name, at_ms in said.items() if name.endswith("_at")}
    return " ".join(f"{name}={value}" for name, value in {**said, **moments}.items())


@ctl.command("orders")
def orders(*, as_json: AsJson = False, data_dir: DataDir = None, env_file: EnvFile = None) -> None:
    """Show the orders that are open at the venue, as of the last reconciliation with it."""
    _run(_orders(as_json, data_dir, env_file))


async def _orders(as_json: bool, data_dir: Path | None, env_file: Path | None) -> None:  # noqa: FBT001
    async with _bot(data_dir, env_file) as access:
        with bus_errors():
            raw: Any = await access.redis.get(Key.LATEST_SNAPSHOT)
    if raw is None:
        raise NoSnapshot("open orders are not known: portfolio_state has written no snapshot lately")
    snapshot = Message[StateSnapshot].read(raw).data
    if as_json:
        kept = snapshot.model_dump(mode="json", include={"open_orders", "asof_ms"})
        typer.echo(json.dumps(kept, indent=2))
        return
    for each in snapshot.open_orders:
        whose = " foreign" if each.foreign else ""
        kind = " reduce-only" if each.reduce_only else ""
        typer.echo(
            f"{each.symbol:<8} {each.side:<5} {each.qty:>14f} @ {each.px:<12f} "
            f"{each.exchange_order_id:<14} {each.client_order_id or each.cloid or '—'}{kind}{whose}"
        )
    typer.echo(f"{len(snapshot.open_orders)} open orders at {from_ms(snapshot.asof_ms):%Y-%m-%d %H:%M:%S}Z")


StreamArgument = Annotated[Stream, typer.Argument(help="The stream that the entry came from.")]
LetterId = Annotated[str, typer.Argument(metavar="ID", help="Its id, as `dlq list` shows it.")]


@dlq.command("list")
def dlq_list(
    stream: Annotated[Stream | None, typer.Argument(help="Only this stream's.")] = None,
    *,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """List dead letters, newest first."""

    async def work() -> None:
        async with _bot(data_dir, env_file, operator=True) as access:
            found = await list_dead_letters(access.redis, stream=stream)
        if as_json:
            typer.echo(json.dumps([{"id": each.id, **each.letter.model_dump(mode="json")} for each in found], indent=2))
            return
        for each in found:
            letter = each.letter
            typer.echo(
                f"{letter.failed_at:%Y-%m-%d %H:%M:%S}  {letter.stream}  {each.id}  "
                f"{letter.error_type}: {letter.reason}"
            )
        typer.echo(f"{len(found)} dead letters")

    _run(work())


@dlq.command("show")
def dlq_show(
    stream: StreamArgument, letter_id: LetterId, *, data_dir: DataDir = None, env_file: EnvFile = None
) -> None:
    """Show one dead letter whole, as JSON."""

    async def work() -> None:
        async with _bot(data_dir, env_file, operator=True) as access:
            kept = await show_dead_letter(access.redis, stream=stream, letter_id=letter_id)
        typer.echo(kept.letter.model_dump_json(indent=2))

    _run(work())


@dlq.command("retry")
def dlq_retry(
    stream: StreamArgument, letter_id: LetterId, *, data_dir: DataDir = None, env_file: EnvFile = None
) -> None:
    """Put an entry back into its stream; refused once its cycle is over, because it would mean nothing."""

    async def work() -> None:
        async with _bot(data_dir, env_file, operator=True) as access:
            new_id = await retry_dead_letter(
                access.redis,
                stream=stream,
                letter_id=letter_id,
                now_ms=access.clock.now_ms(),
                cycle_seconds=access.static.cycle_seconds,
                bot_id=await access.bot_id(),
            )
        typer.echo(f"back in {stream} as {new_id}")

    _run(work())


@dlq.command("drop")
def dlq_drop(
    stream: StreamArgument, letter_id: LetterId, *, data_dir: DataDir = None, env_file: EnvFile = None
) -> None:
    """Take a dead letter away for good; the audit log keeps that it was there."""

    async def work() -> None:
        async with _bot(data_dir, env_file, operator=True) as access:
            await drop_dead_letter(
                access.redis,
                stream=stream,
                letter_id=letter_id,
                now_ms=access.clock.now_ms(),
                bot_id=await access.bot_id(),
            )
        typer.echo("dropped")

    _run(work())


def audit(
    search: Annotated[str, typer.Argument(help="Only records that contain this text: a kind, a cycle, a coin.")] = "",
    *,
    kind: Annotated[str, typer.Option("--kind", help="Only records of this kind, such as risk.approved or dlq.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new records until Ctrl-C.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many of the newest to begin with.")] = 50,
    as_json: AsJson = False,
    data_dir: DataDir = None,
    env_file: EnvFile = None,
) -> None:
    """Search the audit log, or follow it: inputs, clamps, plans, executions, errors.

    A line a record, with the figures that matter; --json prints the whole of each.
    """

    wanted = (search, f'"kind":"{kind}"' if kind else "")

    async def work() -> None:
        async with _bot(data_dir, env_file) as access:
            last = await _print_newest(access, wanted, limit=limit, as_json=as_json)
            while follow:
                with bus_errors():
                    rows: Any = await access.redis.xrange(Stream.AUDIT, min=f"({last}", count=500)
                for entry_id, fields in rows:
                    last = entry_id
                    _print_record(fields[PAYLOAD_FIELD], wanted, as_json=as_json)
                if not rows:
                    await access.clock.sleep_real(BLOCK_MS / 10_000)

    _run(work())


async def _print_newest(access: Access, wanted: tuple[str, ...], *, limit: int, as_json: bool) -> str:
    """Print the newest matching records, oldest first; returns the last entry's id."""
    matching: list[str] = []
    newest, end = "0-0", "+"
    while len(matching) < limit:
        with bus_errors():
            rows: Any = await access.redis.xrevrange(Stream.AUDIT, max=end, count=500)
        if not rows:
            break
        newest = rows[0][0] if end == "+" else newest
        end = f"({rows[-1][0]}"
        matching += [raw for _, fields in rows if _matches(raw := fields[PAYLOAD_FIELD], wanted)]
    for raw in reversed(matching[:limit]):
        _print_record(raw, wanted, as_json=as_json)
    return newest


def _matches(raw: str, wanted: tuple[str, ...]) -> bool:
    return all(each in raw for each in wanted)


def _print_record(raw: str, wanted: tuple[str, ...], *, as_json: bool) -> None:
    if not _matches(raw, wanted):
        return
    if as_json:
        typer.echo(raw)
        return
    try:
        message = Message[AuditRecord].read(raw)
    except ValidationError:
        typer.echo(raw)
        return
    typer.echo(audit_line(message))


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(0) from None
