PORT ?= 8080
ARGS ?=
PYTEST = .venv/bin/python -m pytest

.PHONY: help setup run test check fix bench screenshots lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: ## install what is missing (uv, Debian packages, Python packages)
	@scripts/setup

run: setup ## start the product on http://127.0.0.1:8080 (PORT=)
	@PORT=$(PORT) exec .venv/bin/caesarion serve

test: setup ## all tests: of the page's parts, then of everything
	cd frontend && PATH="$$PATH:$(CURDIR)/.tools/bin" npm run --silent test
	$(PYTEST) $(ARGS)

check: setup ## format, lint, types, layers, shell scripts, the page's too
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	PYTHONPATH=sandbox_image .venv/bin/lint-imports
	cd frontend && PATH="$$PATH:$(CURDIR)/.tools/bin" npm run --silent check
	shellcheck scripts/setup .ci/run examples/*.sh

fix: setup ## repair what format and lint can repair, and renew docs/configuration.md
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	cd frontend && PATH="$$PATH:$(CURDIR)/.tools/bin" npm run --silent fix
	.venv/bin/python scripts/configuration >docs/configuration.md

bench: setup ## measure, beside a bare kernel in the same run
	.venv/bin/python -m bench $(ARGS)

screenshots: setup ## make pictures of the page's states, into build/screenshots
	.venv/bin/python -m tests.browser.screenshots $(ARGS)

lock: setup ## renew the hash-pinned locks, nothing younger than a week
	@for name in uv node dev sandbox; do \
	  .tools/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    --no-emit-index-url --no-emit-find-links --exclude-newer "$$(date -u -d '7 days ago' +%Y-%m-%dT00:00:00Z)" \
	    requirements/$$name.in -o requirements/$$name.txt; \
	done

clean: ## remove environments and caches
	rm -rf .venv .venv-sandbox frontend/node_modules frontend/.next frontend/out frontend/public/vendor .tools .stamps .mypy_cache .ruff_cache .pytest_cache
