"""The two agents: `node` runs on every managed machine, `subnet` on every link. Shells around `domain` and `wire`."""
