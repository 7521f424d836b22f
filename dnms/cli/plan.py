"""`dnms plan`: what operators want."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tomllib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import App, Parameter, validators
from rich.console import RenderableType
from rich.text import Text

from dnms.bus.port import Unanswered, Unavailable
from dnms.cli import from_api, http, plan_diff
from dnms.cli.exits import MACHINE, OK, USAGE, Failure
from dnms.cli.options import API, SITE, WHEN, ApiUrl, AsOf, SiteDirectory
from dnms.cli.plan_diff import Diff
from dnms.cli.plan_text import to_toml
from dnms.cli.rendering import Output, answer, facts, say, table
from dnms.disk import atomic
from dnms.disk.extensions import load_strategies
from dnms.domain.aggregate import Refused
from dnms.domain.document import MAX_DOCUMENT, DocumentError, from_builtins
from dnms.domain.plan import PlanState

WholePlan = Annotated[Path, Parameter(help="The whole plan, in TOML. What it does not name is withdrawn.")]

Then = Annotated[AsOf, Parameter(name="--at", help=f"As it was then, or after the commit at #SEQUENCE: {WHEN}")]

_PART = re.compile(r"\$\.(\w+)\[(\d+)\]")

app = App(name="plan", help="What operators want: realms, subnets, pools, groups.")


class Shown(msgspec.Struct, frozen=True):
    """The plan as a document."""

    position: int
    plan: dict[str, Any]


class Change(msgspec.Struct, frozen=True):
    """An event of the plan."""

    name: str
    fields: dict[str, Any]


class Applied(msgspec.Struct, frozen=True):
    """What a new plan changed."""

    position: int  # of the plan now
    folded: bool  # the views have it
    events: list[Change]  # none: it was so already


@app.command
def apply(
    file: WholePlan,
    /,
    *,
    if_position: Annotated[
        int | None,
        Parameter(
            help="Only if the plan is still at this position, which `diff` and `export` tell.",
            validator=validators.Number(gte=0),
        ),
    ] = None,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Make the plan exactly this one, all of it or nothing."""
    document = read(file)

    async def post() -> Applied:
        async with http.opened(api, site) as opened:
            applied = await opened.post("/plan", document, Applied, if_match=if_position)
            if not applied.folded:
                doubt = await from_api.doubtful(opened)
                say(f"it is in the log; {doubt.text if doubt else 'the views have it only now'}")
            return applied

    try:
        applied = asyncio.run(post())
    except http.Refusal as refusal:
        problem = refusal.problem
        if problem.errors:
            raise refused(file, document, [(place.path, place.detail) for place in problem.errors]) from refusal
        if problem.why == "plan-changed":
            text = f"nothing was applied: {problem.detail}: `dnms plan diff {file}`"
            raise Failure(refusal.code, text) from refusal
        if problem.why == Unavailable.why:
            raise Failure(refusal.code, f"nothing was applied: {problem.detail}; `dnms serve` logs why") from refusal
        if problem.why == Unanswered.why:
            text = f"{problem.detail}\nperhaps it was applied; apply it again, which changes nothing if it was"
            raise Failure(refusal.code, text) from refusal
        raise
    answer(applied, lambda: _tables(applied), output)
    return OK


@app.command
def diff(file: WholePlan, /, *, api: ApiUrl = API, site: SiteDirectory = SITE, output: Output = "table") -> int:
    """What this plan would change, and what that would do to the leases that there are. Changes nothing."""
    document = read(file)

    async def post() -> Diff:
        async with http.opened(api, site) as opened:
            return await opened.post("/plan/diff", document, Diff)

    try:
        found = asyncio.run(post())
    except http.Refusal as refusal:
        if refusal.problem.errors:
            places = [(place.path, place.detail) for place in refusal.problem.errors]
            raise refused(file, document, places) from refusal
        raise
    answer(found, lambda: plan_diff.tables(found, str(file)), output)
    return OK


class Checked(msgspec.Struct, frozen=True):
    """What is in a plan that can be applied."""

    file: str
    subnets: int
    pools: int


@app.command
def check(file: WholePlan, /, *, output: Output = "table") -> int:
    """Whether a file is a plan that can be applied to a site without any. Asks nobody."""
    load_strategies()
    document = read(file)
    # Whom a reservation means is known to the API; here they are no more than different.
    wanted = from_builtins(document, client_of=lambda who: hashlib.blake2b(who.encode(), digest_size=16).digest())
    try:
        PlanState().decide(wanted, at=0, entropy=bytes(wanted.ENTROPY))
    except Refused as refusal:
        places = [(place, detail) for place, _, detail in (line.partition(": ") for line in refusal.text.splitlines())]
        raise refused(file, document, places) from refusal
    checked = Checked(str(file), len(wanted.subnets), len(wanted.pools))
    answer(checked, lambda: [Text(f"{file} is a plan: {checked.subnets} subnets, {checked.pools} pools.")], output)
    return OK


@app.command
def show(*, at: Then | None = None, api: ApiUrl = API, site: SiteDirectory = SITE, output: Output = "table") -> int:
    """The plan as it is or was, in TOML as `apply` takes it."""
    shown = _get(api, site, at)
    answer(shown.plan, lambda: [Text(to_toml(shown.plan).rstrip("\n"))], output)
    return OK


class Exported(msgspec.Struct, frozen=True):
    """Where the plan was written to."""

    file: str
    position: int


@app.command
def export(
    file: Annotated[Path | None, Parameter(help="Where to; what is there is replaced. Without it: stdout.")] = None,
    /,
    *,
    at: Then | None = None,
    api: ApiUrl = API,
    site: SiteDirectory = SITE,
    output: Output = "table",
) -> int:
    """Write the plan as it is or was to a file that `diff` and `apply` take: all of the file, or none of it."""
    shown = _get(api, site, at)
    if file is None:
        answer(shown.plan, lambda: [Text(to_toml(shown.plan).rstrip("\n"))], output)
        return OK
    text = f"# The plan at position {shown.position}.\n{to_toml(shown.plan)}"
    try:
        atomic.write(file, text.encode())
    except OSError as error:
        raise Failure(MACHINE, f"cannot write {file}: {error.strerror or error}") from error
    exported = Exported(str(file), shown.position)
    answer(exported, lambda: [facts([("file", file), ("position", shown.position)])], output)
    return OK


def _get(api: str, site: Path, at: datetime | int | None) -> Shown:
    async def get() -> Shown:
        async with http.opened(api, site) as opened:
            return await opened.get("/plan", Shown, from_api.as_of(at))

    return asyncio.run(get())


def read(file: Path) -> dict[str, Any]:
    """The document in a file, checked as far as it can be without the plan that is there; Failure."""
    document: dict[str, Any] = {}
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_DOCUMENT + 1)
        document = tomllib.loads(data.decode()) if len(data) <= MAX_DOCUMENT else {}
        if len(data) > MAX_DOCUMENT or len(msgspec.json.encode(document)) > MAX_DOCUMENT:  # which the API takes
            raise Failure(USAGE, f"{file}: more than {MAX_DOCUMENT >> 20} MiB, the most that a plan may have")
        from_builtins(document, client_of=lambda _: bytes(16))  # whom it means is known to the API
    except OSError as error:
        raise Failure(USAGE, f"cannot read {file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise Failure(USAGE, f"{file}: expected TOML in UTF-8; byte {error.start} is none") from error
    except tomllib.TOMLDecodeError as error:
        raise Failure(USAGE, f"{file}: not TOML: {error}") from error
    except RecursionError as error:
        raise Failure(USAGE, f"{file}: nested too deeply for a plan") from error
    except DocumentError as error:
        expected, _, place = str(error).partition(" - at `")
        raise refused(file, document, [(place.removesuffix("`"), expected)]) from error
    return document


def refused(file: Path, document: dict[str, Any], problems: Sequence[tuple[str, str]]) -> Failure:
    """What is wrong at which places of a plan, as the end of a command."""
    lines = [f"{file}: {place}{_named(document, place)}: {detail}" for place, detail in problems]
    return Failure(USAGE, "\n".join([*lines, "nothing was changed"]))


def _named(document: dict[str, Any], place: str) -> str:
    """The name of the part that a place is in, such as `$.pool[1].range`: nobody counts from 0 in a long file."""
    found = _PART.match(place)
    try:
        name = document[found[1]][int(found[2])]["name"] if found else None
    except (LookupError, TypeError):
        return ""
    return f" ({name!r})" if isinstance(name, str) else ""


def _tables(applied: Applied) -> list[RenderableType]:
    if not applied.events:
        return [Text(f"The plan was so already, since position {applied.position}.")]
    rows = ((event.name, _subject(event.fields)) for event in applied.events)
    found: list[RenderableType] = [table(("What changed", "Name"), rows)]
    names = {event.name for event in applied.events}
    if "site.defined" not in names and any(name.startswith("pool.") for name in names):  # nobody was entered before
        found.append(Text("For nodes that were entered, `dnms node add` again keeps addresses in these pools."))
    return [*found, Text(f"The plan is at position {applied.position}.")]


def _subject(fields: dict[str, Any]) -> object:
    """The name of what an event is about: of itself, or of the part that it carries."""
    parts = [value for value in fields.values() if isinstance(value, dict)]
    return (parts[0] if parts else fields).get("name")
