"""What is local to the machine whose firewall is kept: its links that are guarded, its bridges, its own traffic."""

from __future__ import annotations

import re
import tomllib
from typing import Annotated

import msgspec

from dnms.events.plan import Name
from dnms.subscribers.subscriber import Local, OptionsError

_LINK = re.compile(r"[A-Za-z0-9_.:@-]{1,15}|[A-Za-z0-9_.:@-]{0,14}\*")


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `[firewall]` of the file that `--config` names."""

    guard: bool | dict[Name, tuple[str, ...]] = False
    """By subnet: the links on which its nodes are, such as eth1, or vnet* on a bridge: they send what they hold. True:
    the links that `--interface SUBNET=INTERFACE` names."""

    bridge: bool = False  # also what is forwarded between the ports of bridges, in `table bridge dnms`
    input: bool = False  # also what is sent to this machine itself
    confirm: Annotated[int, msgspec.Meta(ge=2, le=3_600)] = 30
    """Seconds in which the bus has to be reached after a change of the rules for `input`; else they let all through."""

    @property
    def guarded(self) -> dict[str, tuple[str, ...]]:
        """By subnet: links."""
        return self.guard if isinstance(self.guard, dict) else {}

    @property
    def tables(self) -> tuple[str, ...]:
        """The families of our tables."""
        return ("inet", "bridge") if self.bridge else ("inet",)


NOTHING = Options()
"""Where nothing is given: sets in `table inet dnms`, and the rules of the plan for what is routed."""


def options_of(local: Local) -> Options:
    """What was given on this machine. OptionsError."""
    options = Options()
    if local.config is not None:
        try:
            document = tomllib.loads(local.config.read_text())
            options = msgspec.convert(document.get("firewall", {}), Options)
        except OSError as error:
            raise OptionsError(f"cannot read {local.config}: {error.strerror or error}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise OptionsError(f"{local.config} is not TOML: {error}") from error
        except msgspec.ValidationError as error:
            known = ", ".join(Options.__struct_fields__)
            raise OptionsError(f"{local.config}: in [firewall]: {error}; known are {known}") from error
    if options.guard is True:
        if not local.interfaces:
            raise OptionsError("`guard = true` is of the links that --interface SUBNET=INTERFACE names: give some")
        links_of = {subnet: (link,) for subnet, link in local.interfaces.items()}
        options = msgspec.structs.replace(options, guard=links_of)
    for subnet, links in options.guarded.items():
        for link in links:
            if not _LINK.fullmatch(link):
                raise OptionsError(f"{link!r} of subnet {subnet!r} is no interface; expected one such as eth1 or vnet*")
    if options.input and not local.bus:
        raise OptionsError("`input` needs a bus that can be reached, to confirm that the rules let it through: --bus")
    return options
