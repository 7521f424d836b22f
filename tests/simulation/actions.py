"""What is done to the machines, the link and the log of a simulation, and how it is made good again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dnms.events.ip import format_address
from tests.simulation.log import Faults
from tests.simulation.machines import Agent
from tests.simulation.network import Weather
from tests.simulation.schedule import IN_A_WRITE, Action
from tests.simulation.world import World

MENDED_AFTER = 45.0  # seconds until an operator sees to an agent that does not start

WEATHERS = {"bad": Weather(loss=0.1, doubling=0.1, delay=0.05), "worse": Weather(loss=0.4, doubling=0.2, delay=0.8)}
FAULTS = {
    "bad": Faults(lost=0.05, unacknowledged=0.1, late=0.05, held=0.05, slow=0.1, stale=0.3),
    "worse": Faults(lost=0.15, unacknowledged=0.25, late=0.1, held=0.1, slow=0.3, stale=0.5),
}


def heal(world: World) -> None:
    """All is made good, and nothing breaks any more."""
    world.trace.note("heal")
    world.healed = True
    world.network.parts.clear()
    world.network.weather = Weather()
    world.log.faults = Faults()
    world.log.up.set()
    world.log.full_since = None
    world.log.let_time_come()
    for address in tuple(world.stranger.addresses):
        world.stranger.remove(address)
    if world.isp is not None:
        world.isp.settle()
    if world.router is not None:
        world.router.start()
    for agent in world.agents:
        agent.journal.mend()
        agent.start()
        if agent.client is not None:
            agent.client.cut = False
    for node in world.nodes:
        if node.on and not node.host.wired:
            node.kernel.set_carrier(True)
        node.boot()
        node.start()


# -- what is done to whom


async def act(world: World, action: Action) -> None:
    fields = {name: value for name in ("whom", "seconds", "how") if (value := getattr(action, name))}
    world.trace.note(action.what, **fields)
    over = _ACTIONS[action.what](world, action)
    if over is not None:
        asyncio.get_running_loop().call_later(action.seconds, _over, world, action, over)
    if action.what == "plan":
        await world.apply(action.how)
    elif action.what == "operate":
        await world.operate(next(each for each in world.nodes if each.name == action.whom), action.how)


def _over(world: World, action: Action, over: Callable[[], None]) -> None:
    if not world.healed:
        world.trace.note("over", action=action.what, whom=action.whom)
        over()


def _node(world: World, action: Action) -> Callable[[], None] | None:
    node = next(each for each in world.nodes if each.name == action.whom)
    if action.what == "boot":
        node.boot()
    if not node.on or action.what == "boot":
        return None
    match action.what:
        case "crash-node" | "stop-node":
            node.crash() if action.what == "crash-node" else node.stop()
            return node.start
        case "power-node":
            node.power_off()
            if action.how == "clock lost":
                node.skew = -world.wall()
            elif action.how:
                node.skew += int(action.how.removeprefix("clock set "))
            return node.boot
        case "replace-node":
            node.replace()
            return node.boot
        case "flap":
            node.kernel.set_carrier(False)
            return lambda: node.kernel.set_carrier(True) if node.on else None
        case "flush":
            node.kernel.flush()
        case "release":
            node.release()
    return None


def _agent(world: World, action: Action) -> Callable[[], None] | None:
    agent = next(each for each in world.agents if each.name == action.whom)
    match action.what:
        case "begin":
            agent.start()
        case "crash-agent" if action.how == IN_A_WRITE:
            agent.journal.in_next_write = agent.crash
            return agent.start
        case "crash-agent" | "power-agent" if agent.running:
            agent.crash() if action.what == "crash-agent" else agent.power_off()
            if action.how == "disk lost":
                agent.lose_disk()
            elif action.how == "journal damaged":
                agent.journal.damage()
                asyncio.get_running_loop().call_later(MENDED_AFTER, _over, world, action, lambda: _mend(agent))
            return agent.start
        case "stop-agent":
            agent.stop()
            return agent.start
        case "cut-agent" if (client := agent.client) is not None:
            client.cut = True
            return lambda: setattr(client, "cut", False)
    return None


def _mend(agent: Agent) -> None:
    agent.journal.mend()
    agent.start()


def _link(world: World, action: Action) -> Callable[[], None] | None:
    network = world.network
    match action.what:
        case "partition":
            network.parts = dict.fromkeys(action.how.split(), 1)
            return network.parts.clear
        case "weather":
            network.weather = WEATHERS[action.how]
            return lambda: setattr(network, "weather", Weather())
        case "break-streams":
            for stream in tuple(network.streams)[::2]:
                stream.abort()
    return None


def _stranger(world: World, action: Action) -> Callable[[], None]:
    """Somebody takes an address that a pool may give, and that nobody uses now."""
    pools = world.plans[world.plan].pools
    pool = pools[int(action.how) % len(pools)]
    first, last = int.from_bytes(pool.first), int.from_bytes(pool.last)
    address = (first + int(action.how) // 7 % (last - first + 1)).to_bytes(16)
    taken = [each.addresses for each in world.kernels if address in each.addresses]
    if not taken:
        world.trace.note("stranger takes", address=format_address(address))
        world.stranger.add(address, 128, "other", None)
        world.stranger.addresses[address].usable = True
    return lambda: world.stranger.remove(address) if not taken else None


def _above(world: World, action: Action) -> Callable[[], None] | None:
    if action.what == "uplink" and world.isp is not None:
        world.isp.act(action.how)
    elif action.what == "stop-router" and world.router is not None:
        world.router.kill()
        return world.router.start
    return None


def _log(world: World, action: Action) -> Callable[[], None] | None:
    log = world.log
    match action.what:
        case "log-away" if action.how == "full":
            log.full_since = asyncio.get_running_loop().time()
            return lambda: setattr(log, "full_since", None)
        case "log-away":
            log.up.clear()
            return log.up.set
        case "log-faults":
            log.faults = FAULTS[action.how]
            return lambda: setattr(log, "faults", Faults())
        case "log-clock":
            log.set_clock(int(action.how))
    return None


_ACTIONS: dict[str, Callable[[World, Action], Callable[[], None] | None]] = {
    **dict.fromkeys(("boot", "crash-node", "power-node", "stop-node", "flap", "flush", "release"), _node),
    "replace-node": _node,
    **dict.fromkeys(("begin", "crash-agent", "power-agent", "stop-agent", "cut-agent"), _agent),
    **dict.fromkeys(("partition", "weather", "break-streams"), _link),
    **dict.fromkeys(("log-away", "log-faults", "log-clock"), _log),
    "stranger": _stranger,
    **dict.fromkeys(("uplink", "stop-router"), _above),
    **dict.fromkeys(("plan", "operate"), lambda world, action: None),
}
