# The machine needs Python 3.10 or newer (with venv), git and make.  The rest is installed into .venv.
PYTHON ?= python3
BIN    := .venv/bin

.PHONY: help serve test coverage test-slow browser-test poolers containers browser pictures bench lint format requirements sbom clean sure
.DEFAULT_GOAL := help

# The files that another user, such as root, made by running make before.
UNWRITABLE := $(shell for path in . .venv bench/.venv .postgres .coverage .*_cache .hypothesis; do \
	[ ! -e $$path ] || [ -w $$path ] || echo $$path; done)
ifneq ($(and $(UNWRITABLE),$(filter-out help,$(MAKECMDGOALS))),)
$(error You may not write to $(UNWRITABLE): run make as the owner, or "make clean" as root before \
	(for .postgres: "make clean DATABASE=yes"))
endif
ifneq ($(findstring %,$(CURDIR)),)
$(error Rename this folder, because its path contains a %)
endif

# The stamps hold the path, because a copied or moved .venv still points to the old place.
ifneq ($(shell cat .venv/installed 2> /dev/null),$(CURDIR))
.PHONY: .venv/installed
endif
ifneq ($(shell cat bench/.venv/installed 2> /dev/null),$(CURDIR))
.PHONY: bench/.venv/installed
endif

help:     ## Show this list
	@sed -nE 's/^([a-z-]+): [^#]*## (.*)/make \1\t\2/p' Makefile | expand -t 20

serve: .venv/installed    ## Serve http://localhost:5000 on an embedded PostgreSQL (PORT=N for another port)
	@exec $(BIN)/pserve development.ini --reload

# Three processes for two cores: many tests wait for PostgreSQL, for a socket or for a lock.
FAST := -m 'not slow and not browser and not container' --numprocesses 3 --dist loadfile

test: .venv/installed    ## Run the fast tests on an embedded PostgreSQL
	@$(BIN)/python -m pytest $(FAST)

coverage: .venv/installed    ## Run the fast tests again, and require that they cover every branch
	@$(BIN)/python -m pytest $(FAST) --cov --cov-report=term --cov-fail-under=100

test-slow: .venv/installed    ## Run the slow tests: large tables, floods, kills, real processes, many random inputs
	@$(BIN)/python -m pytest -m slow --numprocesses 2 --dist loadfile

browser-test: .venv/installed    ## Install what the browser tests need, and run them; without a browser they are skipped
	@$(MAKE) --no-print-directory browser || echo "The browsers could not be installed."
	@$(BIN)/python -m pytest -m browser --numprocesses 2 --dist loadfile

poolers: .venv/installed    ## Install PgBouncer (Debian, as root), and run the functional tests through it; without PgBouncer they are skipped
	@command -v pgbouncer > /dev/null || [ -x /usr/sbin/pgbouncer ] || \
		{ apt-get -qq update && apt-get -qq install --no-install-recommends pgbouncer; } || \
		echo "PgBouncer could not be installed."
	@$(BIN)/python -m pytest $(FAST) --pooler=transaction tests/functional
	@$(BIN)/python -m pytest $(FAST) --pooler=session tests/functional

containers: .venv/installed    ## Build the image and test it alone, with compose and as Heroku runs it (needs Docker)
	@$(BIN)/python -m pip install --quiet --editable '.[development,containers]'
	@$(BIN)/python -m pytest -m container

# The browsers come last: without them, or without one, "make browser-test" runs the other tests.
browser: .venv/installed    ## Install what the browser tests need: Chromium and Firefox (Debian, as root), Playwright, and the page checkers
	@$(BIN)/python -m pip install --quiet --editable '.[development,browser]'
	@cd tests/browser && PATH="$(CURDIR)/$(BIN):$$PATH" npm ci --silent --ignore-scripts
	@{ command -v chromium && command -v firefox-esr; } > /dev/null || \
		{ apt-get -qq update && apt-get -qq install --no-install-recommends chromium firefox-esr; }

pictures: browser    ## Create docs/pictures: every page as Chromium shows it
	@$(BIN)/python -m tests.browser.pictures

bench: bench/.venv/installed    ## Compare the speed with other products and with the machine's limits, in 9 minutes (QUICK=1: in 2)
	@bench/.venv/bin/python -m bench $(if $(QUICK),--quick)

lint: .venv/installed    ## Check style, formatting and types
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

format: .venv/installed    ## Format the code, and fix what ruff can fix
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

requirements: .venv/installed    ## Update requirements.txt, pinned and hashed, and pin the base images by digest (needs Docker)
	@$(BIN)/python -m pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.13 --generate-hashes \
		--custom-compile-command 'make requirements' --output-file requirements.txt setup.cfg
	@deploy/pin-images.sh

sbom:    ## Build the image, and list its packages and their licences in sbom/ (needs Docker)
	@docker build --tag hello_login .
	@docker build --file deploy/sbom.Dockerfile --output sbom deploy

clean:    ## Remove all files that make created; asks before it deletes the development database (DATABASE=yes)
	@$(PYTHON) .ci/clean.py

sure:     ## Run everything that the project's gate runs
	@.ci/run

# The stamp is written last, so that an interrupted installation starts again.
.venv/installed: setup.cfg pyproject.toml
	@echo "Installing into .venv (once): downloads about 55 MB, and takes about 250 MB on disk ..."
	@[ "$$(cat $@ 2> /dev/null)" = "$(CURDIR)" ] || rm -rf .venv
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[development]'
	@echo "$(CURDIR)" > $@

bench/.venv/installed: setup.cfg bench/requirements.txt bench/products/requirements.txt
	@echo "Installing into bench/.venv (once): downloads about 60 MB, and takes about 310 MB on disk ..."
	@[ "$$(cat $@ 2> /dev/null)" = "$(CURDIR)" ] || rm -rf bench/.venv
	@$(PYTHON) -m venv bench/.venv
	@bench/.venv/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement bench/requirements.txt --editable .
	@$(PYTHON) -m venv bench/.venv/products
	@bench/.venv/products/bin/python -m pip install --quiet --disable-pip-version-check \
		--requirement bench/products/requirements.txt
	@echo "$(CURDIR)" > $@
