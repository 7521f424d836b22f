"""The narrowest choice of each item of a policy wins, and the rest is as the defaults say."""

from dnms.domain.adopted import Adopted
from dnms.domain.policy import narrowest, policy_of
from dnms.events.configuration import Policy
from dnms.events.plan import AdoptedPlan, PolicyChoice, Stateless, Subnet


def test_of_each_item_the_first_that_says_something_wins() -> None:
    choices = [PolicyChoice(mode="observe"), PolicyChoice(mode="manage", confirm=0), PolicyChoice(confirm=60, drain=1)]
    assert narrowest(choices) == PolicyChoice(mode="observe", confirm=0, drain=1)
    assert policy_of(narrowest(choices)) == Policy(mode="observe", confirm=0, drain=1)


def test_nothing_said_is_the_default() -> None:
    assert policy_of(narrowest([])) == Policy()
    assert (Policy().mode, Policy().rivals) == ("manage", "report")


def test_the_group_on_this_link_then_the_group_then_the_link() -> None:
    subnet = Subnet(
        name="lab",
        realm="default",
        prefixes=(),
        policy=PolicyChoice(mode="observe", drain=1, confirm=1),
        groups={"sales": Stateless(policy=PolicyChoice(mode="manage"))},
    )
    adopted = Adopted(
        AdoptedPlan(
            position=1,
            level=1,
            subnet=subnet,
            groups={"sales": 7},
            stateless={"sales": Stateless(policy=PolicyChoice(mode="manage-ra-gateway", drain=2))},
        )
    )
    assert adopted.stateless(7).policy == PolicyChoice(mode="manage", drain=2, confirm=1)
    assert adopted.stateless(0).policy == PolicyChoice(mode="observe", drain=1, confirm=1)
