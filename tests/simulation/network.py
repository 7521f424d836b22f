"""One simulated link: datagrams get lost, doubled and late, streams break or hang, and parts of it have no way."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Collection
from random import Random
from typing import Any, NoReturn

from dnms.agents.listening import Entered
from dnms.agents.tls import Validity
from dnms.events.ip import format_address
from dnms.linux.advertisements import Heard
from dnms.linux.errors import KernelError
from dnms.linux.multicast import Peer, Receive
from dnms.wire.datagrams import HOP_LIMIT
from dnms.wire.messages import PORT, Endpoint
from tests.simulation.trace import Trace

INTERFACE = 2  # index of the link on every machine
RETRANSMISSION = 0.2  # seconds; doubled at each
LONGEST_RETRANSMISSION = 5.0
GIVE_UP = 120.0  # seconds in which nothing of a stream came through
SYN_RETRY = 1.0
VALIDITY = Validity(begins=0, ends=1 << 40)


class Weather:
    """How bad the link is."""

    def __init__(self, *, loss: float = 0.0, doubling: float = 0.0, delay: float = 0.002) -> None:
        self.loss = loss
        self.doubling = doubling
        self.delay = delay  # seconds, at most


class Network:
    """The link."""

    def __init__(self, chance: Random, trace: Trace) -> None:
        self.chance = chance
        self.trace = trace
        self.weather = Weather()
        self.hosts: dict[str, Host] = {}
        self.parts: dict[str, int] = {}  # of a link that fell apart, where each host is
        self.streams: list[Stream] = []

    def reach(self, one: Host, other: Host) -> bool:
        """Whether frames go from the one to the other."""
        parted = self.parts.get(one.name, 0) != self.parts.get(other.name, 0)
        return one.wired and other.wired and not parted

    def delay(self) -> float:
        """Of one frame."""
        return self.chance.uniform(0.0001, self.weather.delay)

    def cast(self, data: bytes, sender: Datagrams, receivers: list[Datagrams]) -> None:
        """Bring a datagram to each that can be reached, or not, or twice."""
        for receiver in receivers:
            copies = 1
            if self.chance.random() < self.weather.loss:
                copies = 0
            elif self.chance.random() < self.weather.doubling:
                copies = 2
            for _ in range(copies):
                asyncio.get_running_loop().call_later(self.delay(), self._arrive, data, sender, receiver)

    def _arrive(self, data: bytes, sender: Datagrams, receiver: Datagrams) -> None:
        if receiver.open and self.reach(sender.host, receiver.host):
            receiver.receive(data, sender.peer, HOP_LIMIT)

    def forget(self, stream: Stream) -> None:
        """It has ended."""
        if stream in self.streams:
            self.streams.remove(stream)


class Host:
    """One machine on the link."""

    def __init__(self, network: Network, name: str, address: bytes) -> None:
        self.network = network
        self.name = name
        self.address = address
        self.wired = True  # it has power, and a carrier
        self.listeners: dict[int, Listener] = {}
        self.sockets: list[Datagrams] = []
        self.uses: Callable[[bytes], bool] = lambda address: False  # whether its kernel answers for an address
        self._ports = 40_000
        network.hosts[name] = self

    def open(self, receive: Receive, *, port: int = 0) -> Datagrams:
        """A UDP socket; port 0: one of its own."""
        self._ports += 1
        return Datagrams(self, port or self._ports, receive)

    async def listen(self, port: int) -> dict[Endpoint, Listener]:
        """Listen on the host's address, for `link.Link`."""
        if port in self.listeners:
            raise KernelError("address-in-use", f"{self.name} listens on {port} already")
        self.listeners[port] = listener = Listener(self, port)
        return {Endpoint(address=self.address, port=port): listener}

    def discovery(self, receive: Receive) -> Datagrams:
        """Hear the groups of discovery, for `link.Link`."""
        return self.open(receive, port=PORT)

    async def users(self, addresses: Collection[bytes]) -> dict[bytes, frozenset[bytes]]:
        """Who answers for each, for `link.Link`."""
        await asyncio.sleep(2 * self.network.delay())
        others = [host for host in self.network.hosts.values() if host is not self and self.network.reach(self, host)]
        return {address: frozenset(host.address[-6:] for host in others if host.uses(address)) for address in addresses}

    async def answering(self, addresses: Collection[bytes]) -> Collection[bytes]:
        """Those that somebody has, for `link.Link`."""
        return {address for address, hosts in (await self.users(addresses)).items() if hosts}

    def advertisements(self, heard: Heard) -> Datagrams:
        """No router advertises itself here, for `link.Link`."""
        return self.open(lambda data, peer, hops: None)

    def advertiser(self, solicited: Callable[[], None]) -> NoReturn:
        """No plan has one advertised here, for `link.Link`."""
        raise NotImplementedError

    def dhcp6(self, receive: Receive) -> NoReturn:
        """Nor clients of DHCPv6, for `link.Link`."""
        raise NotImplementedError

    async def hardware(self, address: bytes) -> NoReturn:
        """Nor asks who they are."""
        raise NotImplementedError

    def dhcp4(self, receive: Callable[[bytes], None]) -> NoReturn:
        """Nor clients of DHCPv4, for `link.Link`."""
        raise NotImplementedError

    def watch(self, heard: Callable[[bytes], None]) -> NoReturn:
        """Nor frames, for `link.Link`."""
        raise NotImplementedError

    async def own(self) -> dict[bytes, bytes]:
        """The host's address, for `link.Link`."""
        return {self.address: self.address[-6:]}

    async def connect(
        self, endpoint: Endpoint, *, seen: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, Validity]:
        """Connect to a listener, for `machine.Machine`."""
        network = self.network
        other = next(host for host in network.hosts.values() if host.address == endpoint.address)
        await asyncio.sleep(network.delay())
        while not network.reach(self, other):  # noqa: ASYNC110  # as TCP does
            await asyncio.sleep(SYN_RETRY)
        listener = other.listeners.get(endpoint.port)
        if listener is None:
            raise ConnectionRefusedError(f"{other.name} does not listen")
        self._ports += 1
        here, there = Stream(self, self._ports), Stream(other, endpoint.port)
        here.peer, there.peer = there, here
        knock = Knock(there)
        listener.knock(knock)
        try:
            await knock.entered  # TLS
        except asyncio.CancelledError:
            here.abort()
            raise
        return (*here.streams(), VALIDITY)

    def kill(self) -> None:
        """The processes end, and the kernel tells their peers."""
        self._close_sockets()
        for stream in [each for each in self.network.streams if each.host is self]:
            stream.abort()

    def lose_power(self) -> None:
        """Nobody is told anything."""
        self._close_sockets()
        for stream in [each for each in self.network.streams if each.host is self]:
            stream.vanish()

    def _close_sockets(self) -> None:
        for listener in tuple(self.listeners.values()):
            listener.close()
        for socket in tuple(self.sockets):
            socket.close()


class Datagrams:
    """A UDP socket: what `machine.Datagrams` and `link.Discovery` promise."""

    def __init__(self, host: Host, port: int, receive: Receive) -> None:
        self.host = host
        self.peer: Peer = (format_address(host.address), port, 0, INTERFACE)
        self.receive = receive
        self.open = True
        self.dropped: Counter[str] = Counter()
        host.sockets.append(self)

    def send(self, data: bytes, to: str | Peer) -> None:
        """To a group, or to a peer."""
        if not self.open:
            return
        others = [
            socket for host in self.host.network.hosts.values() if host is not self.host for socket in host.sockets
        ]
        if isinstance(to, str):
            receivers = [each for each in others if each.peer[1] == PORT]
        else:
            receivers = [each for each in others if each.peer == to]
        self.host.network.cast(data, self, receivers)

    def rejoin(self) -> None:
        """Bridges that forget are not simulated."""

    def close(self) -> None:
        self.open = False
        if self in self.host.sockets:
            self.host.sockets.remove(self)


class Knock:
    """A connection before TLS."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.peer = stream.get_extra_info("peername")[0]
        self.entered: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def enter(self, *, within: float) -> Entered:
        stream, network = self.stream, self.stream.host.network
        async with asyncio.timeout(within):
            await asyncio.sleep(4 * network.delay())
            while not network.reach(stream.host, stream.other.host):  # noqa: ASYNC110  # as TCP does
                await asyncio.sleep(SYN_RETRY)
        if self.entered.done() or stream.lost:
            raise ConnectionResetError("the peer has gone")
        self.entered.set_result(None)
        return Entered(*stream.streams(), self.peer)

    def close(self) -> None:
        if not self.entered.done():
            self.entered.set_exception(ConnectionResetError("not let in"))
        self.stream.abort()


class Listener:
    """A port that takes connections."""

    def __init__(self, host: Host, port: int) -> None:
        self._host = host
        self._port = port
        self._knocks: asyncio.Queue[Knock] = asyncio.Queue()

    def knock(self, knock: Knock) -> None:
        self._knocks.put_nowait(knock)

    async def accept(self) -> Knock:
        return await self._knocks.get()

    def close(self) -> None:
        if self._host.listeners.get(self._port) is self:
            del self._host.listeners[self._port]
        while not self._knocks.empty():
            self._knocks.get_nowait().close()


class Stream(asyncio.Transport):
    """One end of a TCP connection. What is on its way when the way is lost comes later."""

    def __init__(self, host: Host, port: int) -> None:
        super().__init__()
        self.host = host
        self.peer: Stream | None = None
        self.lost = False  # this end is over
        self._port = port
        self._protocol: asyncio.StreamReaderProtocol | None = None
        self._closing = False
        self._paused = False
        self._waiting: deque[bytes | None] = deque()  # to the peer; None: the end
        self._came: deque[bytes | None] = deque()  # before TLS is through, or while reading is paused
        self._timer: asyncio.TimerHandle | None = None
        self._tried = 0.0  # seconds in which nothing came through
        host.network.streams.append(self)

    @property
    def other(self) -> Stream:
        assert self.peer is not None
        return self.peer

    def streams(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """What asyncio makes of it."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        self._protocol = protocol = asyncio.StreamReaderProtocol(reader)
        protocol.connection_made(self)
        if self.lost:
            protocol.connection_lost(ConnectionResetError("reset"))
        self._hand_over()
        return reader, asyncio.StreamWriter(self, protocol, reader, loop)

    # What asyncio asks of a transport.

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name != "peername":
            return default
        return (f"{format_address(self.other.host.address)}%eth0", self.other._port, 0, INTERFACE)

    def is_closing(self) -> bool:
        return self._closing

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """It takes all."""

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._hand_over()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self._closing and not self.lost:
            self._waiting.append(bytes(data))
            self._arm(self._delay())

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._waiting.append(None)
            self._arm(self._delay())
            asyncio.get_running_loop().call_soon(self._lose, None)

    def abort(self) -> None:
        """Tell the peer that this end is over, if it can be told."""
        if not self.lost:
            self._closing = True
            self._waiting.clear()
            self._lose(None)
            asyncio.get_running_loop().call_later(self._delay(), self._reset_peer)

    # What the network does to it.

    def vanish(self) -> None:
        """The machine lost its power."""
        self._closing = True
        self._waiting.clear()
        if self._timer is not None:
            self._timer.cancel()
        self._lose(ConnectionAbortedError("power cut"))

    def reset(self) -> None:
        """The peer's kernel knows no such connection."""
        self._closing = True
        self._waiting.clear()
        self._lose(ConnectionResetError("reset by peer"))

    def _reset_peer(self) -> None:
        if not self.other.lost and self.host.network.reach(self.host, self.other.host):
            self.other.reset()

    def _delay(self) -> float:
        network = self.host.network
        retransmitted = network.chance.random() < network.weather.loss
        return network.delay() + (RETRANSMISSION if retransmitted else 0.0)

    def _arm(self, delay: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._carry)

    def _carry(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        if not self.host.network.reach(self.host, self.other.host):
            pause = min(LONGEST_RETRANSMISSION, self._tried or RETRANSMISSION)
            self._tried += pause
            if self._tried > GIVE_UP:
                self.reset()
            else:
                self._arm(pause)
            return
        self._tried = 0.0
        if self.other.lost:
            self.reset()
            return
        waiting, self._waiting = self._waiting, deque()
        for data in waiting:
            self.other._come(data)

    def _come(self, data: bytes | None) -> None:
        self._came.append(data)
        self._hand_over()

    def _hand_over(self) -> None:
        while self._came and self._protocol is not None and not self._paused and not self.lost:
            data = self._came.popleft()
            if data is None:
                self._protocol.eof_received()
            else:
                self._protocol.data_received(data)

    def _lose(self, error: Exception | None) -> None:
        if self.lost:
            return
        self.lost = True
        self.host.network.forget(self)
        if self._protocol is not None:
            self._protocol.connection_lost(error)
