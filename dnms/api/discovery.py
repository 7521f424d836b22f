"""The nodes for programs that look for machines: targets for Prometheus, an inventory for Ansible."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter, SkipValidation

from dnms.api import answers
from dnms.api.plan import Plans
from dnms.api.problems import Invalid
from dnms.api.questions import TheViews
from dnms.domain.assignment import group_of
from dnms.domain.plan import PlanState
from dnms.events.ip import family, parse_address
from dnms.projections.addresses import queries as addresses
from dnms.projections.nodes import queries as nodes
from dnms.projections.nodes.queries import SHORT, NodeRow
from dnms.projections.views import Reading

PAGE = 10_000  # rows of one query

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}")
"""Names that can stand in an inventory. Machines make theirs up, and Ansible evaluates `{{ … }}` in what it reads."""

_USABLE = "usable"  # the outcome of an address that works


class Machine(msgspec.Struct, frozen=True):
    """A node with what it is reached by: its addresses, the ones that it said to work first."""

    node: NodeRow
    group: str | None
    addresses: list[str]


class Wanted(msgspec.Struct, frozen=True):
    """Which nodes, and which of their addresses first."""

    subnet: str | None
    group: str | None
    session: str | None
    first: int  # 6, 4


class Target(msgspec.Struct, frozen=True):
    """One node in the format of Prometheus' `http_sd_config` and `file_sd_config`."""

    targets: list[str]
    labels: dict[str, str]


def which(
    plans: Plans,
    *,
    subnet: FromQuery[str | None] = None,
    group: FromQuery[str | None] = None,
    session: FromQuery[Literal["open", "closed", "none"] | None] = None,
    family: FromQuery[Literal["6", "4"]] = "6",
) -> Wanted:
    """Nodes of a subnet, of a group, with a session in a state; `family`: the addresses to take, if there are any."""
    plan = plans.fold.state
    if subnet is not None and subnet not in plan.subnets:
        raise Invalid("subnet", f"the plan has no subnet {subnet!r}; expected one of {sorted(plan.subnets)}")
    if group is not None and group not in plan.groups:
        raise Invalid("group", f"the plan has no group {group!r}; expected one of {sorted(plan.groups)}")
    return Wanted(subnet, group, session, int(family))


TheWanted = NamedDependency[SkipValidation[Wanted]]


@get("/discovery/prometheus")
async def prometheus(
    views: TheViews,
    plans: Plans,
    which: TheWanted,
    port: Annotated[int, QueryParameter(ge=1, le=65535)] = 9100,
) -> Response[list[Target]]:
    """Every node that has an address, as a target of Prometheus' HTTP service discovery, at a port of theirs."""
    async with views.read() as reading:
        found = await machines(reading, plans.fold.state, which)
        return answers.answer([_target(each, port) for each in found if each.addresses], reading.position.sequence)


@get("/discovery/ansible")
async def ansible(views: TheViews, plans: Plans, which: TheWanted) -> Response[dict[str, Any]]:
    """Every node, as the JSON that an inventory script of Ansible prints for `--list`.

    A node is in `group_…` and `subnet_…`. One whose name is no plain word, or is that of another one too, is called
    by its client id.
    """
    async with views.read() as reading:
        found = await machines(reading, plans.fold.state, which)
        return answers.answer(inventory(found), reading.position.sequence)


async def machines(reading: Reading, plan: PlanState, wanted: Wanted) -> list[Machine]:
    """The nodes that are wanted, in the order of their client ids."""
    rows: list[NodeRow] = []
    after = b""
    while page := await nodes.nodes(reading.db, subnet=wanted.subnet, session=wanted.session, after=after, limit=PAGE):
        rows += page
        after = bytes.fromhex(page[-1].client)
    groups = await _groups(reading, plan)
    if wanted.group is not None:
        rows = [row for row in rows if groups.get(row.client) == wanted.group]
    given = await _given(reading)
    found = []
    for row in rows:
        own = [each for client in (row.client, *row.identities) for each in given.get(client, ())]
        works = [address for address, outcome in row.outcomes.items() if outcome == _USABLE]
        text = sorted({*own, *works}, key=lambda each: _rank(each, works, wanted.first))
        found.append(Machine(row, groups.get(row.client), text))
    return found


def inventory(found: Sequence[Machine]) -> dict[str, Any]:
    """Ansible's inventory of these machines."""
    names = Counter(machine.node.name for machine in found)
    variables: dict[str, dict[str, Any]] = {}
    groups: dict[str, list[str]] = defaultdict(list)
    for machine in found:
        node = machine.node
        host = node.name if node.name and _PLAIN.fullmatch(node.name) else node.client
        if node.name == host and names[host] > 1:
            host = f"{host}-{node.client[:SHORT]}"
        about = {
            "ansible_host": machine.addresses[0] if machine.addresses else None,
            "dnms_addresses": machine.addresses,
            "dnms_client": node.client,
            "dnms_group": machine.group,
            "dnms_session": node.session,
            "dnms_subnet": node.subnet,
        }
        variables[host] = {key: value for key, value in about.items() if value}
        of = {"group": machine.group, "subnet": node.subnet}
        for group in [f"{kind}_{name.replace('-', '_')}" for kind, name in of.items() if name] or ["ungrouped"]:
            groups[group].append(host)
    return {
        "_meta": {"hostvars": variables},
        "all": {"children": sorted({*groups, "ungrouped"})},
        **{name: {"hosts": groups[name]} for name in sorted(groups)},
    }


def _target(machine: Machine, port: int) -> Target:
    node, address = machine.node, machine.addresses[0]
    about = {
        "name": node.name,
        "client": node.client,
        "subnet": node.subnet,
        "group": machine.group,
        "session": node.session,
        "agent": node.agent,
    }
    at = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    return Target([at], {f"__meta_dnms_{key}": value for key, value in about.items() if value})


async def _groups(reading: Reading, plan: PlanState) -> dict[str, str]:
    """The group of each node that is in one, by client id. In a thread: patterns are many times names."""
    identities = await nodes.identities(reading.db)
    names = {group.number: name for name, group in plan.groups.items()}

    def found() -> dict[str, str]:
        numbers = (
            (each, group_of(plan, each.name, duid=each.duid, hardware=each.hardware, entered=each.entered_group))
            for each in identities
        )
        return {each.client.hex(): names[number] for each, number in numbers if number in names}

    return await asyncio.to_thread(found)


async def _given(reading: Reading) -> dict[str, list[str]]:
    """The addresses that clients hold, or that are kept for them."""
    found: dict[str, list[str]] = defaultdict(list)
    after = (b"", "")
    while page := await addresses.addresses(reading.db, after=after, limit=PAGE):
        for row in page:
            if row.state in {"held", "reserved"}:
                found[row.client].append(row.address)
        after = (parse_address(page[-1].address), page[-1].subnet)
    return found


def _rank(address: str, works: Iterable[str], first: int) -> tuple[bool, bool, bytes]:
    packed = parse_address(address)
    return (family(packed) != first, address not in works, packed)


HANDLERS = (prometheus, ansible)
