"""The commands by their names, each imported when it is called, and the errors that end them by exit codes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches

from cyclopts import App, CycloptsError, Group

from dnms import __version__
from dnms.cli.exits import INTERRUPTED, OK, READER_GONE, USAGE, Failure

EPILOGUE = """
Exit codes: 0 done, or yes; 1 no, or not as it should be; 2 wrong usage or input, nothing was changed; 3 this machine
lacks something; 4 the API or the bus does not answer; 5 the API or the bus refuses; 6 not in time. See docs/cli.md.
"""

RUN = Group("Run", sort_key=1)
CHANGE = Group("Change", sort_key=2)
ASK = Group("Ask", sort_key=3)
CHECK = Group("Check", sort_key=4)
OPTIONS = Group("Options", sort_key=5)

COMMANDS = (
    (RUN, "init", "dnms.cli.init:init", "Make a new site: its secret, certificates and tokens."),
    (RUN, "serve", "dnms.cli.serve:command", "Run a site's log, views and API."),
    (RUN, "subnet-agent", "dnms.agents.subnet:main", "Run a Subnet Agent: serve the nodes of one link."),
    (RUN, "node-agent", "dnms.agents.node:main", "Run a Node Agent: configure this machine."),
    (RUN, "relay", "dnms.agents.relay:main", "Run a relay: pass the nodes of a link on to agents elsewhere."),
    (RUN, "subscriber", "dnms.cli.subscriber:app", "Who acts on the log, such as the firewall: run one, list them."),
    (CHANGE, "plan", "dnms.cli.plan:app", "What operators want: compare, apply, show and export a plan."),
    (
        CHANGE,
        "import",
        "dnms.cli.importing:app",
        "Take over from Kea, ISC dhcpd or dnsmasq: a plan, and the leases.",
    ),
    (CHECK, "shadow", "dnms.cli.shadow:shadow", "Listen to another DHCP server: in what DNMS would differ."),
    (CHANGE, "rollout", "dnms.cli.rollout:app", "New plans on their way to the nodes in waves: how far, wait, undo."),
    (ASK, "node", "dnms.cli.node:app", "The machines: who is there and how; enter and forget them."),
    (ASK, "address", "dnms.cli.address:app", "The addresses: who holds which; reserve, release, move."),
    (ASK, "alarm", "dnms.cli.alarm:app", "What is wrong on the links: duplicates, strange routers and servers, scans."),
    (ASK, "pool", "dnms.cli.pool:app", "The pools, and how much of them is in use."),
    (ASK, "who-had", "dnms.cli.who_had:who_had", "Who had an address or those of a prefix, at a time, or ever."),
    (ASK, "subnet", "dnms.cli.audit:subnet_app", "The subnets: what changed in one."),
    (ASK, "prefix", "dnms.cli.prefix:app", "The prefixes: who holds which of whom; what is cut from what."),
    (ASK, "why", "dnms.cli.why:why", "Why a route, an address, a prefix or an element of a set is as it is."),
    (ASK, "audit", "dnms.cli.audit:audit", "Every event, searched: who did what, when, and why."),
    (ASK, "activity", "dnms.cli.audit:activity", "How much happened by hour, for plots."),
    (ASK, "wait", "dnms.cli.wait:command", "Wait until what was decided has arrived: on a node, in routes, in sets."),
    (ASK, "inventory", "dnms.cli.inventory:app", "The nodes for Ansible and Prometheus."),
    (ASK, "event", "dnms.cli.event:app", "What happened, and what happens."),
    (CHECK, "firewall", "dnms.cli.firewall:app", "This machine's firewall: its rules; what it lacks by the log."),
    (CHECK, "evidence", "dnms.cli.evidence:app", "Who had an address, in a signed file; such a file against the log."),
    (CHECK, "view", "dnms.cli.view:app", "The views: fold them anew, compare them with the log."),
    (CHECK, "log", "dnms.cli.log:app", "The log itself: copy it, archive it, check it against its archive, repair it."),
    (CHECK, "keys", "dnms.cli.keys:app", "The keys of what is personal in the log: copy them."),
    (CHECK, "replay", "dnms.cli.replay:replay", "Step through the log; decide again what was asked."),
    (CHECK, "what-if", "dnms.cli.what_if:what_if", "Run a changed plan over what really happened."),
    (CHECK, "lab", "dnms.cli.lab:app", "A network of namespaces on this machine, with real agents in it."),
    (CHECK, "doctor", "dnms.cli.doctor:doctor", "What this machine lacks, and how to get it."),
)
"""Group, name, place, and the line in the help, for which alone the agents are here: `main` has dispatched them."""

NAMES = [name for _, name, _, _ in COMMANDS]


def make() -> App:
    """The app. Nothing but names until a command is called."""
    app = App(
        name="dnms",
        help="Distributed Network Management System: addresses and configuration of nodes, from one immutable log.",
        help_epilogue=EPILOGUE,
        version=f"dnms {__version__}",
        result_action="return_value",
    )
    for group, name, where, about in COMMANDS:
        app.command(where, name=name, help=about, group=group)
    for option in ("--help", "--version"):
        app[option].group = (OPTIONS,)
    return app


def run(words: Sequence[str]) -> int:
    """Run one command line; the exit code. Every foreseeable error is a clear line on stderr."""
    try:
        _check_name(words)
        code = make()(list(words), exit_on_error=False, print_error=False)
        return code if isinstance(code, int) else OK
    except Failure as failure:
        ended = failure
    except CycloptsError as error:
        ended = Failure(USAGE, " ".join(str(error).split()))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        discard_output()
        return READER_GONE
    except Exception as error:
        from dnms.cli.foreseen import failure_of  # noqa: PLC0415  # not before it is needed

        foreseen = failure_of(error)
        if foreseen is None:
            raise
        ended = foreseen
    for line in ended.text.splitlines():
        print(f"dnms: {line}", file=sys.stderr)
    return ended.code


def discard_output() -> None:
    """Let the interpreter's last flush of stdout go nowhere, after its reader has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_name(words: Sequence[str]) -> None:
    """Refuse an unknown command. The parser does so too, but imports every command before."""
    if words and not words[0].startswith("-") and words[0] not in NAMES:
        near = get_close_matches(words[0], NAMES, n=1)
        meant = f", did you mean {near[0]!r}?" if near else ""
        raise Failure(USAGE, f"unknown command {words[0]!r}{meant}; see `dnms --help`")
