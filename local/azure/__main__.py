"""`python -m local.azure`: serve a fleet as Azure Resource Manager would."""

import argparse
import asyncio
import os
import secrets
import signal
import sys
from contextlib import suppress
from pathlib import Path

from aiohttp import web

from local.arguments import whole_number
from local.azure import fleet
from local.azure.control import Control
from local.azure.dns_server import HOST as DNS_HOST
from local.azure.dns_server import DnsServer
from local.azure.identity import Identity
from local.azure.journal import Journal
from local.azure.resolver import Resolver
from local.azure.run_command import AZURE_SECONDS
from local.azure.server import Simulator, application
from local.azure.store import Store
from local.azure.throttle import READS, WRITES, Limit, Throttle
from local.nodes.client import unavailable

_EPILOG = """\
The app finds it through three environment variables, printed at the start:
  ARM_ENDPOINT       http://127.0.0.1:7072            where Azure Resource Manager is
  IDENTITY_ENDPOINT  http://127.0.0.1:7072/msi/token  where its managed identity gets tokens
  IDENTITY_HEADER    …                                the secret for that
With --dns-port a fourth line, DNS_SERVER, says where host names are answered: those of the fleet's
names.json, and all others as this machine resolves them.

While it runs (loopback only, no token):
  GET    /_sim/health               what is served
  GET    /_sim/requests[?since=N]   every ARM request so far; DELETE forgets them
  GET    /_sim/actions              the Azure actions asked for, with counts
  GET    /_sim/resources?id=ID      a resource; DELETE takes it away
  PUT    /_sim/resources            add or replace a resource, or an array of them
  PUT    /_sim/admin-rules          say what virtual networks have in force, as a *.adminrules.json does; GET
  PUT    /_sim/nodes                say what nodes are like inside, as a *.nodes.json does; GET
  PUT    /_sim/names                say what host names resolve to, as names.json does; GET
  POST   /_sim/faults               {"match": {"action", "path", "subscription", "method"},
                                     "kind": "403|404|429|500|503|reset|hang|empty|malformed|truncated",
                                     "times": N, "seconds": S, "probability": P}
  GET    /_sim/faults[/ID]          the faults there are; DELETE ends one, or all
  PUT    /_sim/latency              {"ms": N}
  POST   /_sim/reload               read the fleet again, and drop what was put or deleted

A fleet file that is edited is read again by itself, within about a second.

Exit status: 0 after SIGINT or SIGTERM, 1 if a port is taken, 2 if the fleet or an option is unusable.
"""


def main(arguments: list[str] | None = None) -> int:
    """Read the options and serve until told to stop."""
    options = _parser().parse_args(arguments)
    try:
        content = fleet.load(options.fleet)
    except fleet.FleetError as error:
        print(f"local.azure: {error}", file=sys.stderr)
        return 2
    secret = options.identity_header or os.environ.get("IDENTITY_HEADER") or secrets.token_hex(16)
    try:
        journal = Journal(options.log_file)
    except OSError as error:
        print(f"local.azure: --log-file {options.log_file}: {error.strerror}", file=sys.stderr)
        return 2
    simulator = Simulator(
        store=Store(content),
        identity=Identity(secret, lifetime=options.token_lifetime),
        journal=journal,
        throttle=Throttle(reads=options.reads, writes=options.writes, enabled=not options.no_throttle),
        page_size=options.page_size,
        latency=options.latency_ms / 1000,
        run_command_seconds=options.run_command_seconds,
        run_command_most=options.run_command_timeout,
        why_recorded="it was asked for with --nodes recorded"
        if options.nodes == "recorded"
        else unavailable(),
    )
    try:
        return asyncio.run(_serve(simulator, options, secret))
    finally:
        journal.close()


async def _serve(simulator: Simulator, options: argparse.Namespace, secret: str) -> int:
    app = application(simulator)
    control = Control(simulator, options.fleet)
    control.add_to(app)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)  # a hang must not outlive us
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port, reuse_address=True).start()
    except OSError as error:
        print(
            f"local.azure: port {options.port} on {options.host} cannot be used ({error.strerror}); "
            "choose another with --port or ARM_PORT",
            file=sys.stderr,
        )
        await runner.cleanup()
        return 1
    dns: DnsServer | None = None
    if options.dns_port is not None:
        dns = DnsServer(Resolver(simulator.store.names.get))
        try:
            simulator.dns_port = await dns.start(options.dns_port)
        except OSError as error:
            print(
                f"local.azure: port {options.dns_port} on {DNS_HOST} cannot be used for DNS "
                f"({error.strerror}); choose another with --dns-port",
                file=sys.stderr,
            )
            await runner.cleanup()
            return 1
    port = runner.addresses[0][1]
    base = f"http://{options.host}:{port}"
    counts, why = simulator.store.counts(), simulator.why_recorded
    print(
        f"Azure simulator: {counts['resources']} resources of {options.fleet} on {base}\n"
        + (f"Nodes: recorded text ({why})\n" if why else "Nodes: Linux network namespaces\n")
        + (f"DNS_SERVER={DNS_HOST}:{simulator.dns_port}\n" if dns else "")
        + f"ARM_ENDPOINT={base}\nIDENTITY_ENDPOINT={base}/msi/token\nIDENTITY_HEADER={secret}",
        flush=True,
    )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    watching = asyncio.create_task(control.watch(_report))
    await stop.wait()
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    if dns:
        await dns.stop()
    await runner.cleanup()
    await simulator.run_commands.close()
    return 0


def _report(problem: str) -> None:
    print(f"local.azure: still serving the fleet as it was: {problem}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local.azure",
        description="Serve a fleet of raw ARM JSON as Azure Resource Manager would, to the real Azure SDK.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--fleet", type=Path, required=True, metavar="DIR", help="directory of *.json, as Azure returns them")
    add(
        "--port",
        type=int,
        default=os.environ.get("ARM_PORT", "7072"),
        help="port to listen on; 0 picks a free one (default: ARM_PORT, else 7072)",
    )
    add("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add(
        "--dns-port",
        type=whole_number(0, 65_535),
        metavar="PORT",
        help=f"answer DNS on this port of {DNS_HOST} too, UDP and TCP; 0 picks a free one (default: no DNS)",
    )
    add(
        "--latency-ms",
        type=whole_number(0, 60_000),
        default=0,
        metavar="MS",
        help="how long ARM takes to answer anything (default: %(default)s)",
    )
    add(
        "--page-size",
        type=whole_number(1, 100_000),
        default=50,
        metavar="N",
        help="items on a page of a list (default: %(default)s)",
    )
    add(
        "--nodes",
        choices=("auto", "recorded"),
        default="auto",
        help="what Run Command reaches: network namespaces where there are any, or recorded text "
        "(default: %(default)s)",
    )
    add(
        "--run-command-seconds",
        type=_seconds,
        default=0.2,
        metavar="S",
        help="how long Run Command takes at the least; Azure's takes about 20 (default: %(default)s)",
    )
    add(
        "--run-command-timeout",
        type=_seconds,
        default=AZURE_SECONDS,
        metavar="S",
        help="after how long it times out (default: %(default)g, as Azure's)",
    )
    add("--no-throttle", action="store_true", help="never answer 429 for want of tokens")
    for name, limit in (("reads", READS), ("writes", WRITES)):
        add(
            f"--{name}",
            type=_limit,
            default=limit,
            metavar="N:M",
            help=f"throttle of {name} per subscription: N at once, refilled at M a second "
            f"(default: {limit.capacity:g}:{limit.refill:g})",
        )
    add(
        "--identity-header",
        metavar="SECRET",
        help="what a token request must carry in X-IDENTITY-HEADER (default: IDENTITY_HEADER, else random)",
    )
    add(
        "--token-lifetime",
        type=whole_number(1, 10**7),
        default=86_400,
        metavar="S",
        help="seconds for which a token is good (default: %(default)s)",
    )
    add("--log-file", type=Path, metavar="F", help="append every ARM request to F, as JSON lines")
    return parser


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds from 0 to 86400")
    return found


def _limit(text: str) -> Limit:
    try:
        return Limit.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is not N:M, such as 250:25") from None


if __name__ == "__main__":
    sys.exit(main())
