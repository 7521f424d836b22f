"""The two agents: `node` runs on every managed machine, `subnet` on every link. Shells around `domain` and `wire`."""

import sys

# structlog takes rich in wherever that is installed, for tracebacks in colours: 4 MB of every agent, which shows none.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
