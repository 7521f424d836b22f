from __future__ import annotations

import pytest

from dnms.domain.document import DocumentError, from_builtins, from_toml

SITE = '[site]\nname = "a"\n'
SUBNET = SITE + '[[subnet]]\nname = "lan"\nprefixes = ["2001:db8::/64"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", 'Expected a [site] table with the name of the site, such as name = "home" - at `$`'),
        ("colour = 1", "unknown field `colour`; known are site, realm, group, subnet, pool - at `$`"),
        (SITE + "colour = 1", "unknown field `colour`; known are name, level - at `$.site`"),
        (
            SUBNET + "[[subnet.routes]]\nvia = 1",
            "unknown field `via`; known are destination, gateway, metric - at `$.subnet[0].routes[0]`",
        ),
        (
            '[site]\nname = "LAN x"',
            "Expected a name: at most 63 lower-case letters, digits and hyphens, with no hyphen",
        ),
        (SUBNET + 'search = ["a b"]', "Expected a domain such as home.example - at `$.subnet[0].search[0]`"),
        ("x = " + "[" * 100_000, "Nested too deeply for a plan - at `$`"),
    ],
)
def test_what_is_wrong_says_what_would_be_right(text: str, said: str) -> None:
    with pytest.raises(DocumentError) as error:
        from_toml(text)
    assert said in str(error.value)


def test_what_is_nested_too_deeply_is_no_plan() -> None:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(DocumentError):
        from_builtins({"site": {"name": "a"}, "pool": deep})
