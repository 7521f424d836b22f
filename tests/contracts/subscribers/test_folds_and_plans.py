"""What holds for the fold and the plan of every subscriber, over the examples that it brings. Nothing is applied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_origin, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dnms.subscribers
from dnms.subscribers import SUBSCRIBERS
from dnms.subscribers.subscriber import Actual, Example, Plan, Subscriber
from tests.contracts.subscribers.logs import CASES, IDS, STATES, commits, examples, local, wanted


def actual_of(subscriber: Subscriber[Any, Any]) -> type[Actual[Any]]:
    """What it finds in its world, as its plan takes it."""
    _, taken, _ = get_type_hints(subscriber.plan).values()
    found: type[Actual[Any]] = get_origin(taken) or taken
    assert issubclass(found, Actual)
    return found


def test_every_subscriber_is_in_the_list_and_brings_examples() -> None:
    [folder] = dnms.subscribers.__path__
    folders = {path.parent.name for path in Path(folder).glob("*/__init__.py")}
    assert sorted(subscriber.name for subscriber in SUBSCRIBERS) == sorted(folders)
    names = [subscriber.name for subscriber in STATES]
    for name in names:
        assert any(example.wanted is None for example in examples(name))  # it knows when the log says nothing
        assert any(example.wanted for example in examples(name))


@pytest.mark.parametrize(("subscriber", "example"), CASES, ids=IDS)
def test_the_log_means_what_the_example_says(subscriber: Subscriber[Any, Any], example: Example[Any]) -> None:
    assert wanted(subscriber, example.log) == example.wanted


@pytest.mark.parametrize(("subscriber", "example"), CASES, ids=IDS)
def test_what_does_not_matter_changes_nothing(subscriber: Subscriber[Any, Any], example: Example[Any]) -> None:
    """A fold that calls a change none would have it wait for the timer."""
    folding = subscriber.folding(local(subscriber.name))
    for stored in commits(example.log):
        before = folding.wanted()
        assert folding.take(stored) or folding.wanted() == before


def there(subscriber: Subscriber[Any, Any], ours: frozenset[Any]) -> Actual[Any]:
    return actual_of(subscriber)(ours=ours)


def applied(actual: Actual[Any], plan: Plan[Any]) -> Actual[Any]:
    return msgspec.structs.replace(actual, ours=(actual.ours | plan.add) - plan.drop)


@pytest.mark.parametrize("subscriber", STATES, ids=lambda subscriber: subscriber.name)
@given(data=st.data())
def test_from_anything_one_step_leads_to_what_is_wanted(subscriber: Subscriber[Any, Any], data: st.DataObject) -> None:
    """Also from where an apply was killed: whatever of a plan was done, the next one does the rest, and no more."""
    states = [state for example in examples(subscriber.name) if (state := example.wanted) is not None]
    anything = st.sampled_from(sorted(frozenset().union(*states), key=repr))
    goal = data.draw(st.sampled_from(states))
    actual = there(subscriber, frozenset(data.draw(st.sets(anything))))
    plan = subscriber.plan(goal, actual)
    assert plan.drop <= actual.ours
    assert not plan.add & actual.ours
    half = Plan(
        add=frozenset(item for item in sorted(plan.add, key=repr) if data.draw(st.booleans())),
        drop=frozenset(item for item in sorted(plan.drop, key=repr) if data.draw(st.booleans())),
    )
    for began in (actual, applied(actual, half)):
        done = applied(began, subscriber.plan(goal, began))
        assert done.ours == goal
        again = subscriber.plan(goal, done)
        assert not again.add
        assert not again.drop


@pytest.mark.parametrize("subscriber", STATES, ids=lambda subscriber: subscriber.name)
def test_what_is_added_does_not_depend_on_what_is_dropped(subscriber: Subscriber[Any, Any]) -> None:
    states = [state for example in examples(subscriber.name) if (state := example.wanted) is not None]
    for goal in states:
        for other in states:
            actual = there(subscriber, other)
            plan = subscriber.plan(goal, actual)
            only = applied(actual, msgspec.structs.replace(plan, drop=frozenset()))
            assert subscriber.plan(goal, only) == msgspec.structs.replace(plan, add=frozenset(), late=frozenset())
