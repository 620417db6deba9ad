"""The command line of tools/lab."""
from __future__ import annotations

import argparse
import json
import os
import signal
import sys

from .lab import ROOT, Lab
from .topology import DEFAULT_SITES

DESCRIPTION = """\
A lab of real hosts in network namespaces: clients behind a wire with delay, routers, the PoP host that runs Detour,
and sites with nginx servers, the last site behind a gateway.

  tools/lab up --sites pangyo,anyang,chuncheon --rtt 50ms
  tools/lab exec client curl -si http://203.0.113.10/
  tools/lab darken pangyo
  tools/lab lbctl status
  tools/lab down

Node names: client, wan, internet, pop, backbone, SITE (its router), SITE-1 ... (its servers), SITE-gw."""


def milliseconds(text: str) -> float:
    value = float(text.removesuffix("ms"))
    if not 0 <= value <= 10_000:
        raise ValueError
    return value


def percent(text: str) -> float:
    return float(text.removesuffix("%"))


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="tools/lab", description=DESCRIPTION,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--name", default=os.environ.get("DETOUR_LAB", "lab"),
                        help="which lab (default: $DETOUR_LAB, or lab); labs of different names run side by side")

    def verb(name: str, help_text: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, parents=[shared], help=help_text, description=help_text)

    up = verb("up", "bring a lab up and wait until it serves")
    up.add_argument("--sites", default=",".join(DEFAULT_SITES), help="names, by comma; the last is a gateway site")
    up.add_argument("--backends", type=int, default=2, help="servers per site (default 2)")
    up.add_argument("--rtt", type=milliseconds, default=50.0, help="the clients' round trip (default 50ms)")
    up.add_argument("--clients", type=int, default=1, help="client hosts, each with a /24 and a /64 (default 1)")
    up.add_argument("--mtu", type=int, default=1500, help="of every link (default 1500)")
    up.add_argument("--encap", choices=("gue", "ipip"), default="gue", help="tunnel to the backends (default gue)")
    up.add_argument("--outer", choices=("v4", "v6"), default="v4", help="address family of the tunnels (default v4)")
    up.add_argument("--no-detour", action="store_true", help="only the network and the servers")
    up.add_argument("--build", help="build directory (default: $DETOUR_BUILD, or build in the repository)")
    status = verb("status", "show nodes, processes and links; without --name, of every lab")
    status.add_argument("--output", choices=("table", "json"), default="table")
    for name, text in (("darken", "cut a site's links as a power cut does; prints CLOCK_REALTIME of the cut"),
                       ("restore", "undo darken")):
        cut = verb(name, text)
        cut.add_argument("site")
        cut.add_argument("--link", choices=("backbone", "internet", "both"), default="both")
    verb("freeze", "stop a backend's servers: connections are taken, nothing is answered").add_argument("backend")
    verb("thaw", "undo freeze").add_argument("backend")
    loss = verb("loss", "random loss on a link, both directions; 0%% ends it")
    loss.add_argument("link", help="client, pop-internet, pop-backbone, SITE-backbone, SITE-internet, SITE-1 ...")
    loss.add_argument("percent", type=percent)
    execute = verb("exec", "run a command in a node")
    execute.add_argument("node")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    lbctl = verb("lbctl", "run lbctl against this lab")
    lbctl.add_argument("command", nargs=argparse.REMAINDER)
    verb("down", "end every process and remove every namespace, link and file").add_argument(
        "--all", action="store_true", help="every lab on this machine")
    return top


def interrupted(number: int, _frame) -> None:
    raise SystemExit(128 + number)


def up(options: argparse.Namespace) -> int:
    lab = Lab(options.name, sites=options.sites.split(","), backends=options.backends, rtt_ms=options.rtt,
              clients=options.clients, mtu=options.mtu, encap=options.encap, outer=options.outer,
              detour=not options.no_detour, build=options.build)
    lab.up(keep=True)
    print(f"lab {lab.name} is up: {len(lab.topology.nodes)} nodes, state and logs in {lab.dir}")
    return 0


def status(options: argparse.Namespace) -> int:
    chosen = [options.name] if "--name" in sys.argv or "DETOUR_LAB" in os.environ else Lab.names()
    labs = [Lab.attach(name).status() for name in chosen if (ROOT / name / "state.json").exists()]
    if options.output == "json":
        print(json.dumps(labs, indent=1))
        return 0
    for lab in labs:
        print(f"lab {lab['name']}: {lab['dir']}")
        for name, node in lab["nodes"].items():
            mine = [p.split("@")[0] + ("" if d["alive"] else " (ended)") + (" (frozen)" if d["frozen"] else "")
                    for p, d in lab["processes"].items() if d["node"] == name]
            print(f"  {name:<14} {node['kind']:<8} {node['v4']:<14} {node['v6']:<20} {', '.join(mine)}".rstrip())
        for name, link in lab["links"].items():
            if link["dark"] or link["loss"]:
                print(f"  link {name}: {'dark' if link['dark'] else ''} {link['loss']:g}% loss")
    if not labs:
        print("no lab is up")
    return 0


def change(options: argparse.Namespace) -> int:
    lab = Lab.attach(options.name)
    if options.verb in ("darken", "restore"):
        cut = getattr(lab, options.verb)(options.site, options.link)
        took_us = (cut.after_ns - cut.before_ns) // 1000
        print(f"{options.verb} {options.site} {options.link} realtime_ns={cut.before_ns} took_us={took_us}")
    elif options.verb in ("freeze", "thaw"):
        getattr(lab, options.verb)(options.backend)
    else:
        lab.loss(options.link, options.percent)
    return 0


def execute(options: argparse.Namespace) -> int:
    lab = Lab.attach(options.name)
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    if options.verb == "lbctl":
        node, command = "pop", [lab.program("lbctl"), "--socket", str(lab.dir / "control.sock"), *command]
    else:
        node = options.node
    if not command:
        print("tools/lab exec: a command is needed", file=sys.stderr)
        return 2
    os.execvp("nsenter", ["nsenter", f"--net=/run/netns/{lab.namespace(node)}", *command])


def down(options: argparse.Namespace) -> int:
    for name in Lab.names() if options.all else [options.name]:
        Lab(name).down()
    return 0


def main() -> int:
    options = parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupted)
    action = {"up": up, "status": status, "exec": execute, "lbctl": execute, "down": down}.get(options.verb, change)
    try:
        return action(options)
    except (RuntimeError, ValueError, OSError) as error:
        print(f"tools/lab: {error}", file=sys.stderr)
        return 1
