"""``kubectl tradingbot``: it parses, and hands over. Rendering is loaded when asked for, so that a halt is fast."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tradingbot.domain.cycles import from_ms
from tradingbot.domain.errors import TradingBotError
from tradingbot.domain.modes import Mode
from tradingbot.runtime.clock import SystemClock
from tradingbot_operator.names import COMPONENTS, FIELD_MANAGER, LABEL_BOT, LABEL_COMPONENT
from tradingbot_operator.plugin.bots import everyone, find, in_monitor, look, name_of
from tradingbot_operator.plugin.kubectl import Kubectl, KubectlFailed
from tradingbot_operator.plugin.speaking import Result, Speaker
from tradingbot_operator.plugin.summary import document, summary, table

app = typer.Typer(
    name="kubectl tradingbot",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Look at trading bots and stop them.

    \b
    kubectl tradingbot status               all that is known of the namespace's bot
    kubectl tradingbot halt majors          cancel every order, place none; waits until nothing can come any more
    kubectl tradingbot resume majors        trade again; a breaker that has tripped stays
    kubectl tradingbot logs majors -c execution -f
    kubectl tradingbot diff -f bot.yaml     what `kubectl apply -f bot.yaml` would change, down to the pods

    NAME may be left out where the namespace has one bot. halt, reduce-only and resume work while the operator is
    down: beside the resource they speak to Redis, through the bot's monitor.
    """,
)

Name = Annotated[str | None, typer.Argument(help="The bot; may be left out where the namespace has only one.")]
Namespace = Annotated[str | None, typer.Option("--namespace", "-n", help="Default: the kubeconfig's.")]
Context = Annotated[str | None, typer.Option("--context", help="Of the kubeconfig. Default: the current one.")]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, for the record.")]
Timeout = Annotated[float, typer.Option("--timeout", min=1, help="Seconds to wait for the acknowledgement.")]
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
File = Annotated[Path, typer.Option("--filename", "-f", help="A manifest with TradingBots; - is standard input.")]
Settings = Annotated[
    Path | None,
    typer.Option("--settings", help="The operator's settings.yaml. Default: those of the one operator in the cluster."),
]
_MODE_CODES = """

    Exit code: 0 in force and acknowledged; 1 nothing was written; 3 written, and not known to be in force.
    """
_ORDERS_TIMEOUT_S = 30.0


@app.command(short_help="Show a bot, or a table of several.")
def status(name: Name = None, *, as_json: AsJson = False, namespace: Namespace = None, context: Context = None) -> None:
    """Show a bot: mode and who asked for it, portfolio, conditions, pods, last events. Of several bots a table."""
    _run(_status(Kubectl(context=context, namespace=namespace), name, as_json))


async def _status(kubectl: Kubectl, name: str | None, as_json: bool) -> int:  # noqa: FBT001
    now = from_ms(SystemClock().now_ms())
    bots = await everyone(kubectl) if name is None else [await find(kubectl, name)]
    if name is None and len(bots) != 1:
        lines = table(bots, now=now) if bots else ["no bot in this namespace: name another with -n"]
        typer.echo(json.dumps(bots, indent=2) if as_json else "\n".join(lines))
        return 0
    seen = await look(kubectl, bots[0])
    typer.echo(json.dumps(document(seen), indent=2) if as_json else "\n".join(summary(seen, now=now)))
    return 0


def _speaker(kubectl: Kubectl, bot: str, timeout_s: float) -> Speaker:
    return Speaker(
        kubectl=kubectl, clock=SystemClock(), bot=bot, tell=typer.echo, complain=_complain, timeout_s=timeout_s
    )


async def _restrict(kubectl: Kubectl, bots: Sequence[str], mode: Mode, *, reason: str, timeout_s: float) -> int:
    """Say it to all of them at once; the code is the worst of theirs, where nothing written is worse than not known."""
    said = await asyncio.gather(*(_speaker(kubectl, each, timeout_s).restrict(mode, reason) for each in bots))
    return min((code for code in said if code), default=Result.DONE)


async def _named(kubectl: Kubectl, name: str | None, *, everybody: bool = False) -> list[str]:
    if not everybody:
        return [await name_of(kubectl, name)]
    if name is not None:
        raise typer.BadParameter("name a bot or say --all, not both")
    return [str(each["metadata"]["name"]) for each in await everyone(kubectl)]


def _complain(text: str) -> None:
    typer.echo(text, err=True)


@app.command(epilog=_MODE_CODES, short_help="Cancel every open order and place none.")
def halt(
    name: Name = None,
    *,
    everybody: Annotated[bool, typer.Option("--all", help="Every bot of the namespace, at once.")] = False,
    reason: Reason = "",
    timeout: Timeout = 30.0,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Cancel every open order of a bot and place none; returns when nothing can come any more.

    Sets spec.mode to HALT and, so that it works while the operator is down, writes a person's HALT to Redis as well;
    that one ends by itself when the resource's own has got there. Each is tried whatever becomes of the other.
    """

    async def work() -> int:
        kubectl = Kubectl(context=context, namespace=namespace)
        bots = await _named(kubectl, name, everybody=everybody)
        return await _restrict(kubectl, bots, Mode.HALT, reason=reason, timeout_s=timeout)

    _run(work())


@app.command("reduce-only", epilog=_MODE_CODES, short_help="Let positions shrink, never grow.")
def reduce_only(
    name: Name = None,
    *,
    reason: Reason = "",
    timeout: Timeout = 30.0,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Let a bot's positions shrink, never grow; by the same two ways as halt."""

    async def work() -> int:
        kubectl = Kubectl(context=context, namespace=namespace)
        bots = await _named(kubectl, name)
        return await _restrict(kubectl, bots, Mode.REDUCE_ONLY, reason=reason, timeout_s=timeout)

    _run(work())


@app.command(epilog=_MODE_CODES, short_help="Trade again; a breaker stays.")
def resume(
    name: Name = None,
    *,
    reason: Reason = "",
    timeout: Timeout = 30.0,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Set spec.mode to NORMAL and lift a person's restriction; what a breaker restricts stays restricted."""

    async def work() -> int:
        kubectl = Kubectl(context=context, namespace=namespace)
        return await _speaker(kubectl, await name_of(kubectl, name), timeout).resume(reason)

    _run(work())


@app.command(short_help="Show the pods' logs.")
def logs(
    name: Name = None,
    *,
    component: Annotated[str, typer.Option("--component", "-c", help=f"One of {', '.join(COMPONENTS)}.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    previous: Annotated[
        bool, typer.Option("--previous", "-p", help="Of the containers before the last restart.")
    ] = False,
    since: Annotated[str, typer.Option("--since", help="Such as 10m.")] = "",
    tail: Annotated[int, typer.Option("--tail", help="Lines of each pod to begin with; -1 is all.")] = 50,
    namespace: Namespace = None,
    context: Context = None,
) -> None:
    """Show the logs of all pods of a bot, or of one component of it."""
    kubectl = Kubectl(context=context, namespace=namespace)
    component = component.replace("_", "-")
    if component and component not in COMPONENTS:
        raise typer.BadParameter(f"{component} is none of {', '.join(COMPONENTS)}", param_hint="--component")

    async def words() -> list[str]:
        bot = await name_of(kubectl, name)
        selector = f"{LABEL_BOT}={bot}{f',{LABEL_COMPONENT}={component}' if component else ''}"
        flags = {"--follow": follow, "--previous": previous, f"--since={since}": bool(since), "--prefix": not component}
        wanted = [flag for flag, on in flags.items() if on]
        return ["logs", f"--selector={selector}", f"--tail={tail}", "--max-log-requests=20", *wanted]

    kubectl.become(_answer(words()))


@app.command(short_help="Show the open orders.")
def orders(name: Name = None, *, as_json: AsJson = False, namespace: Namespace = None, context: Context = None) -> None:
    """Show the orders of a bot's account that are open at the venue, as of its last reconciliation."""

    async def work() -> int:
        kubectl = Kubectl(context=context, namespace=namespace)
        words = in_monitor(await name_of(kubectl, name), "ctl", "orders", *(["--json"] if as_json else []))
        answer = await kubectl.run(*words, timeout_s=_ORDERS_TIMEOUT_S)
        if not answer.ok:
            raise KubectlFailed(answer.err.strip() or answer.why)
        typer.echo(answer.out, nl=False)
        return 0

    _run(work())


@app.command(short_help="Print what the operator makes of a file.")
def render(filename: File, *, settings: Settings = None, namespace: Namespace = None, context: Context = None) -> None:
    """Print what the operator makes of the bots in a file; needs no cluster.

    What only the operator knows (the paper account, hashes of Redis' passwords) is zeros for a bot that is not in the
    cluster. Secrets are never printed.
    """
    from tradingbot_operator.plugin import manifests as made  # noqa: PLC0415 - a halt needs none of it

    async def work() -> int:
        kubectl = Kubectl(context=context, namespace=namespace)
        for body in made.read_resources(filename):
            live = await made.live_twin(kubectl, body)
            bot = made.as_in_cluster(body, live, namespace=namespace)
            in_force, source = await made.operator_settings(kubectl, settings, namespace=bot.namespace)
            _complain(f"# {bot.name}: the operator's settings: {source}")
            typer.echo(
                made.as_yaml(made.rendered(bot, await made.context_here(kubectl, bot, live, in_force))), nl=False
            )
        return 0

    _run(work())


@app.command(
    epilog="Exit code: 0 nothing would change; 1 something would; greater: it could not be told.",
    short_help="Show what applying a file would change.",
)
def diff(filename: File, *, settings: Settings = None, namespace: Namespace = None, context: Context = None) -> None:
    """Show what applying a file would change in the cluster: the bots in it and all that the operator makes of them.

    A server-side dry run: nothing is written. With `kubectl get tb NAME -o yaml | kubectl tradingbot diff -f -` it
    shows what is not as the operator would have it.
    """
    from tradingbot_operator.plugin import manifests as made  # noqa: PLC0415 - a halt needs none of it

    async def work() -> int:
        kubectl = Kubectl(context=context, namespace=namespace)
        code = 0
        for body in made.read_resources(filename):
            live = await made.live_twin(kubectl, body)
            bot = made.as_in_cluster(body, live, namespace=namespace)
            in_force, source = await made.operator_settings(kubectl, settings, namespace=bot.namespace)
            _complain(f"# {bot.name}: the operator's settings: {source}")
            wanted = made.rendered(bot, await made.context_here(kubectl, bot, live, in_force))
            own = await _difference(kubectl, made.as_yaml((made.bare(body, bot),)))
            code = max(code, own, await _difference(kubectl, made.as_yaml(wanted), *_AS_THE_OPERATOR))
        return code

    _run(work())


_AS_THE_OPERATOR = ("--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}")


async def _difference(kubectl: Kubectl, text: str, *options: str) -> int:
    answer = await kubectl.run("diff", *options, "--filename=-", given=text, timeout_s=60)
    typer.echo(answer.out, nl=False)
    if answer.code > 1 or (answer.code and not answer.out):
        _complain(answer.err.rstrip())
        return max(answer.code, 2)
    return answer.code


def _answer(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _run(work: Coroutine[Any, Any, int]) -> None:
    raise typer.Exit(int(_answer(work)))


def main() -> None:
    """Run the plugin; an error of ours is its text on stderr, without a traceback."""
    try:
        app(prog_name="kubectl tradingbot")
    except TradingBotError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(Result.NOTHING_WRITTEN)


if __name__ == "__main__":
    main()
