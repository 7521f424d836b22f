# The two commands of a new machine are `make demo` and `make test`. Needed before: Python 3.11 with pip, make; as root,
# missing Debian packages are installed too, and named before.

PYTHON ?= python3
NODES ?= 20
AGENTS ?= 2
OTHER ?= /usr/bin/python3
WORKERS ?= $(shell expr 2 \* $$(nproc))

NEEDED := -e '.[dev]'
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help venv packages debian demo check test other bench bench-alloc bench-views bench-node bench-subscribers bench-dhcp golden openapi clean

help:
	@echo 'make demo    runs the main job on this machine: $(NODES) nodes and $(AGENTS) Subnet Agents in network namespaces'
	@echo 'make test    runs every check and every test'
	@echo 'make other   runs the tests in which TLS ends on another Python, $(OTHER), in .venv-other'
	@echo 'make check   runs the checks alone: ruff, mypy, import contracts'
	@echo 'make bench   measures, beside bare loops in the same run; docs/performance.md says how to read it'
	@echo 'make bench-alloc  measures allocation with a million leases, for some minutes'
	@echo 'make bench-views  measures the views of a log of EVENTS=1000000 events, beside PostgreSQL and grep'
	@echo 'make bench-node  measures a node, from link up to an address, beside dhcpcd with Kea and SLAAC, for 25 minutes'
	@echo 'make bench-subscribers  measures delegation over levels, and from an event to a route or an element of a set'
	@echo 'make bench-dhcp  measures the DHCP servers beside Kea, dnsmasq and ISC dhcpd, for half an hour'
	@echo 'make golden  writes the golden bytes that new events and requests lack; never changes any'
	@echo 'make openapi writes docs/openapi.json, the description of the API'
	@echo 'make venv    makes .venv with DNMS and its tools in it'
	@echo 'make clean   removes .venv and all caches'

venv: $(STAMP)

# pip of the machine fills the environment, so that Debian's python3-venv (ensurepip) is not needed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo 'DNMS needs Python 3.11 or later: name it, as in `make PYTHON=python3.11 $(MAKECMDGOALS)`' >&2; exit 1; }
	@echo 'Installing DNMS and its tools into $(VENV)'
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip $(VENV)
	@$(PYTHON) -m pip --disable-pip-version-check --python $(BIN)/python install --quiet -c constraints.txt $(NEEDED)
	@touch $@

packages: venv
	@$(BIN)/dnms doctor --install

# What the tests need of Debian and must not be installed: it would take resolv.conf over.
debian: venv
	@$(BIN)/python -m tests.netns.debian

demo: packages
	$(BIN)/dnms lab run basic --nodes $(NODES) --agents $(AGENTS)

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Two workers a core, since most tests mostly wait: for the timers of protocols, for DAD, for other makers' programs. Each
# has a part of the files, whose fixtures it makes once; who is done first takes of the others'.
test: check packages debian
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal

# asyncio ends TLS differently from release to release; Debian 12 has 3.11.2, and the newest 3.11 forgives more. So these
# are the tests of connections, and the lab's in which they end: in order, with who is killed, with a link or a machine.
LAB := tests/system/lab/test_lab.py
ENDS := $(LAB)::test_nodes_are_configured_and_nothing_is_left \
	$(LAB)::test_no_node_loses_what_it_has_while_agents_leave_and_come_back \
	$(LAB)::test_nodes_come_and_go_while_agents_are_killed_down_to_one \
	$(LAB)::test_nodes_join_while_a_node_an_agent_and_the_bus_are_killed \
	$(LAB)::test_nodes_get_back_what_a_link_or_a_reboot_takes_while_no_agent_is_there \
	$(LAB)::test_nodes_wait_for_a_link_that_is_cut
other:
	@$(MAKE) VENV=.venv-other PYTHON=$(OTHER) NEEDED='-e . hypothesis pytest pytest-asyncio pytest-timeout pytest-xdist' packages
	.venv-other/bin/pytest --numprocesses $(WORKERS) --dist worksteal tests/system/agents $(ENDS)

bench: venv
	$(BIN)/python -m bench.log
	$(BIN)/python -m bench.join
	$(BIN)/python -m bench.memory

# Not a part of `bench`: it fills a log with a million leases, and needs root or user namespaces.
bench-alloc: venv
	$(BIN)/python -m bench.alloc

# Not a part of `bench`: of the 10 000 000 events that are its default it makes a log, three files of views and a site.
bench-views: venv
	$(BIN)/python -m bench.views $(if $(EVENTS),--events $(EVENTS))

# Not a part of `bench`: it needs root or user namespaces, starts 200 nodes, and watches an idle one for ten minutes.
bench-node: venv
	$(BIN)/python -m bench.node

# Not a part of `bench`: it needs root or user namespaces, and runs the lab three times.
bench-subscribers: venv
	$(BIN)/python -m bench.subscribers

# Not a part of `bench`: it needs root, and as much of two cores as it can get.
bench-dhcp: venv
	$(BIN)/python -m bench.dhcp

golden: venv
	$(BIN)/python -m tests.unit.events.golden_bytes
	$(BIN)/python -m tests.unit.wire.golden_bytes
	$(BIN)/python -m tests.system.evolution.golden_log

openapi: venv
	$(BIN)/python -m tests.house.openapi

clean:
	rm -rf .venv .venv-other .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
