"""One machine's network, apart from this one's."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from dnms.linux.namespaces import Namespace


@pytest.fixture
def machine() -> Iterator[Namespace]:
    """A namespace with an interface `eth0` that has a link-local address and on which this machine hears itself."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to make network namespaces")
    with Namespace.create("machine") as namespace:
        namespace.ip(
            [
                "link add name eth0 type veth peer name cable",
                "link set dev cable addrgenmode none up",
                "link set dev eth0 addrgenmode none up",
                "address add fe80::5/64 dev eth0 nodad",
            ]
        )
        yield namespace
