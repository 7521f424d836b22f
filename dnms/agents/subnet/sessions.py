"""The sessions of a Subnet Agent: one for each node that was let in."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Set
from contextlib import aclosing

import structlog

from dnms.agents.door import SPARE, Door
from dnms.agents.listening import Entered, Listener
from dnms.agents.pump import Pump
from dnms.agents.subnet.books import Books
from dnms.agents.subnet.claims import Claims
from dnms.agents.subnet.joining import Joining
from dnms.agents.subnet.newcomers import Newcomers
from dnms.agents.subnet.served import Introduction, ServedNode
from dnms.bus.port import LogError
from dnms.events.ip import format_address
from dnms.events.seen import HardwareContested, IdentityContested
from dnms.wire import agent_events as heard
from dnms.wire.agent_session import AgentSession
from dnms.wire.channel import Closed
from dnms.wire.errors import Code
from dnms.wire.rates import Buckets

MAX_ALARMS = 1_024  # remembered
LINES_AT_ONCE = 8  # of the log for one address: some sessions that begin and end; more of them are counted
LINES_A_SECOND = 2 / 60
MAX_PEERS = 4_096  # whose lines are counted: as many as there are sessions
REPORT = 60.0  # seconds between two lines about what was dropped
LEAVE_WITHIN = 3.0  # seconds for what was begun to end, and as many for the log to take the last of it
FAILED = "failed"
"""A defect of this agent ended the session."""
REPLACED = "replaced"
"""The node came back faster than the death of its session was noticed."""
CONTESTED = "duid-in-use"
"""Another machine has a session with this DUID. If that one is dead, the pings find out before the node asks again."""
CONTESTED_RETRY = 30  # seconds
NEWCOMER_RETRY = 60  # seconds; then one more may come from that address

Alarm = IdentityContested | HardwareContested

_logger = structlog.get_logger(__name__)


class Sessions:
    """All open sessions of an agent."""

    def __init__(
        self,
        books: Books,
        introduction: Introduction,
        *,
        client_id: Callable[[bytes], bytes],
        newcomers: Newcomers | None = None,
        claims: Claims | None = None,
        spare: int = SPARE,
    ) -> None:
        """`claims` looks into what nodes say that they have of others, while this serves; None: that is let be.

        `spare`: descriptors that connections of nodes leave to others.
        """
        self._books = books
        self._introduction = introduction
        self._door = Door(self._connected, spare=spare)
        self._client_id = client_id
        self._open: dict[asyncio.Task[None], tuple[AgentSession, Pump[heard.AgentEvent], ServedNode]] = {}
        self._newcomers = newcomers or Newcomers()
        self._claims = claims
        self._strangers: Counter[str] = Counter()  # connections that ended before anybody was welcomed, by why
        self._dropped: Counter[str] = Counter()
        self._lines = Buckets(burst=LINES_AT_ONCE, per_second=LINES_A_SECOND, most=MAX_PEERS)
        self._unsaid: Counter[str] = Counter()  # lines of the log that one address had too many of
        self._alarmed: set[Alarm] = set()  # in the log already: one event a pair of machines

    def __len__(self) -> int:
        return len(self._open)

    async def serve(self, listeners: Iterable[Listener[Entered]]) -> None:
        """Take the connections of these listeners until cancelled; then every node is told that the agent leaves."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._door.serve(listeners))
                tasks.create_task(self._report())
                tasks.create_task(self._books.observations.run())
                if self._claims is not None:
                    tasks.create_task(self._claims.run())
        finally:
            await self._leave()

    async def _leave(self) -> None:
        """Tell every node, and have the books record it. While the log is away neither is waited for to the end."""
        for session, pump, _ in self._open.values():
            session.bye(Code.LEAVING)
            pump.wake()
        if self._open:
            _, waiting = await asyncio.wait(tuple(self._open), timeout=LEAVE_WITHIN)
            for task in waiting:  # for the log
                task.cancel()
            if waiting:
                await asyncio.wait(waiting)
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                await self._books.settled()
        except TimeoutError:
            _logger.warning("ends of sessions not recorded; they will be at the next start")

    @property
    def nodes(self) -> list[tuple[ServedNode, Pump[heard.AgentEvent]]]:
        """Whom there is a session with; `wake` the pump of one that was told something."""
        return [(node, pump) for _, pump, node in self._open.values()]

    def has(self, client: bytes) -> bool:
        """Whether there is a session with this client."""
        return any(node.client == client for _, _, node in self._open.values())

    async def push(self, clients: Set[bytes] | None) -> None:
        """Tell these clients, or all, what they have now."""
        # Side by side, so that what has to be allocated anew goes into few commits.
        due = [(node, pump) for node, pump in self.nodes if clients is None or node.is_any_of(clients)]
        await asyncio.gather(*(tell(pump, node.push) for node, pump in due))

    async def _report(self) -> None:
        """Once a minute, what was dropped."""
        while True:
            await asyncio.sleep(REPORT)
            strangers = self._door.dropped + self._strangers
            for what, counted in (
                ("not let in", strangers),
                ("dropped in sessions", self._dropped),
                ("too often to log each", self._unsaid),
            ):
                if counted:
                    _logger.warning(what, **counted)
            for counted in (self._door.dropped, self._strangers, self._dropped, self._unsaid):
                counted.clear()

    def _log(self, log: Callable[..., object], event: str, peer: bytes, **more: object) -> None:
        """Log what an address can bring about as often as it likes; once a minute, how often it was too often."""
        if self._lines.take(peer, asyncio.get_running_loop().time()):
            log(event, peer=format_address(peer), **more)
        else:
            self._unsaid[event.replace(" ", "-")] += 1

    async def _connected(self, entered: Entered) -> None:
        task = asyncio.current_task()
        assert task is not None
        session = AgentSession(now=asyncio.get_running_loop().time())
        pump: Pump[heard.AgentEvent] = Pump(session, entered.reader, entered.writer)
        joining = Joining(self._books, self._client_id, self.alarm)
        node = ServedNode(
            session,
            self._books,
            self._introduction,
            peer=entered.peer,
            relay=entered.relay,
            joining=joining,
            newcomers=self._newcomers,
            claims=self._claims,
        )
        self._open[task] = (session, pump, node)
        why = FAILED
        try:
            async with aclosing(pump.events()) as events:
                async for event in events:
                    match event:
                        case heard.Greeted():
                            await self._greet(session, node, event)
                        case Closed() if node.client:
                            self._log(
                                _logger.info, "session closed", node.peer, client=node.client.hex(), why=str(event.why)
                            )
                            node.leave(event.why)  # now: it may take seconds until the connection is closed
                        case Closed():
                            self._strangers += session.dropped | Counter({event.why: 1})
                        case _:
                            await node.handle(event)
        except asyncio.CancelledError:
            why = Code.LEAVING
            raise
        except Exception:
            _logger.exception("session failed", peer=entered.peer)
        finally:
            if node.client:
                self._dropped.update(session.dropped)
            node.leave(why)
            del self._open[task]

    async def _greet(self, session: AgentSession, node: ServedNode, greeted: heard.Greeted) -> None:
        """Take the node in, unless another machine has a session with its DUID: then one is a copy of the other.

        A machine is told from its copy by the link-local address that it comes from.
        """
        client = self._client_id(greeted.duid)
        for older, pump, other in tuple(self._open.values()):
            if other.client == client and not older.closed and other.peer == node.peer:
                older.bye(REPLACED)
                pump.wake()
                other.leave(REPLACED)  # before the log has the new one: the views know one session with an agent
            elif other.client == client and not older.closed:
                self._log(_logger.warning, "a second machine has the DUID of another", node.peer)
                session.refuse(CONTESTED, "another machine has this DUID", retry_after=CONTESTED_RETRY)
                await self.alarm(IdentityContested(client=client, holder=other.peer, contender=node.peer))
                return
        now = asyncio.get_running_loop().time()
        if not self._books.knows(client) and not self._newcomers.admits(node.peer, client, now=now):
            text = "too many nodes that are new to this site come from this address"
            session.refuse(Code.BUSY, text, retry_after=NEWCOMER_RETRY)
            return
        node.greet(greeted, client, now=now)
        through = {"relay": node.relay} if node.relay else {}
        self._log(_logger.info, "session opened", node.peer, client=node.client.hex(), sessions=len(self), **through)

    async def alarm(self, event: Alarm) -> None:
        """Record what is wrong with a machine, once, if the log takes it."""
        if event in self._alarmed:
            return
        if isinstance(event, HardwareContested):
            text = "a second node has the hardware address by which another one was entered"
            self._log(_logger.warning, text, event.contender, client=event.client.hex())
        try:
            await self._books.observe(event)
        except LogError as error:
            _logger.warning("alarm not recorded", why=error.why)
            return
        if len(self._alarmed) >= MAX_ALARMS:
            self._alarmed.clear()
        self._alarmed.add(event)


async def tell(pump: Pump[heard.AgentEvent], telling: Callable[[], Awaitable[None]]) -> None:
    """Have one session told something. LogError; a defect in one session is not the others'."""
    try:
        await telling()
    except LogError:
        raise
    except Exception:
        _logger.exception("session not told")
    pump.wake()
