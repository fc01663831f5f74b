PORT ?= 8080
ARGS ?=
DOCKER ?= docker
REGISTRY ?=
TAG ?= 0.1.0
OVERLAY ?= local
CLUSTER ?= ../shared/cluster/cluster
PYTEST = .venv/bin/python -m pytest
LOCKED = .tools/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
  --no-emit-index-url --no-emit-find-links --exclude-newer "$$(date -u -d '7 days ago' +%Y-%m-%dT00:00:00Z)"
# Without it functions-framework starts uvicorn itself: one process, which lets streams end instead of cutting them after 30 s.
NO_GUNICORN = --no-emit-package gunicorn --no-emit-package uvicorn-worker

.PHONY: help setup run test test-cluster check fix bench bench-cluster screenshots lock images deploy cluster clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: ## install what is missing (uv, Debian packages, Python packages)
	@scripts/setup

run: setup ## start the product on http://127.0.0.1:8080 (PORT=)
	@PORT=$(PORT) exec .venv/bin/caesarion serve

test: setup ## all tests: of the page's parts, then of everything
	cd frontend && PATH="$$PATH:$(CURDIR)/.tools/bin" npm run --silent test
	$(PYTEST) $(ARGS)

test-cluster: setup ## the tests that need a cluster: that of KUBECONFIG, else the cluster of tests
	@scripts/test-cluster

check: setup ## format, lint, types, layers, shell scripts, the page's too
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	PYTHONPATH=sandbox_image .venv/bin/lint-imports
	cd frontend && PATH="$$PATH:$(CURDIR)/.tools/bin" npm run --silent check
	shellcheck scripts/setup scripts/images scripts/build-images scripts/test-cluster scripts/deploy scripts/cluster scripts/check-knative frontend/nginx/start .ci/run examples/*.sh
	scripts/check-knative

fix: setup ## repair what format and lint can repair, and renew what is printed from the code
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .
	cd frontend && PATH="$$PATH:$(CURDIR)/.tools/bin" npm run --silent fix
	.venv/bin/python scripts/configuration >docs/configuration.md
	.venv/bin/python scripts/pool >knative/base/20-pool.yaml
	CAESARION_SANDBOX_NETWORK=internet .venv/bin/python scripts/pool --patch >knative/components/internet/pool.yaml

bench: setup ## measure, beside a bare kernel in the same run
	.venv/bin/python -m bench $(ARGS)

bench-cluster: setup ## measure sandboxes and functions in the cluster of KUBECONFIG, or in that of tests (CLUSTER=)
	$(if $(KUBECONFIG),,$(CLUSTER) exec env -C "$(CURDIR)") .venv/bin/python -m bench.cluster $(ARGS)

screenshots: setup ## make pictures of the page's states, into build/screenshots
	.venv/bin/python -m tests.browser.screenshots $(ARGS)

lock: setup ## renew the hash-pinned locks, nothing younger than a week
	@set -e; for name in uv node dev sandbox store; do $(LOCKED) --upgrade requirements/$$name.in -o requirements/$$name.txt; done
	@set -e; for name in chat execute cleanup; do \
	  $(LOCKED) --upgrade --constraints requirements/dev.txt $(NO_GUNICORN) requirements/$$name.in -o requirements/$$name.txt; \
	done

images: ## build all images for REGISTRY= under TAG= and push them (DOCKER=podman for podman)
	@test -n "$(REGISTRY)" || { echo "make images: name a registry, for example REGISTRY=registry.example/team" >&2; exit 1; }
	set -e; images=$$(DOCKER="$(DOCKER)" scripts/build-images "$(REGISTRY)" "$(TAG)"); \
	  for image in $$images; do $(DOCKER) push "$$image"; done

deploy: setup ## put OVERLAY= (local, gvisor, production) into the cluster of KUBECONFIG, with images of REGISTRY=
	@REGISTRY="$(REGISTRY)" TAG="$(TAG)" scripts/deploy $(OVERLAY)

cluster: setup ## Knative and the product in a cluster: that of KUBECONFIG, or a new one by kind and kn quickstart
	@DOCKER="$(DOCKER)" scripts/cluster

clean: ## remove environments and caches
	rm -rf .venv .venv-sandbox frontend/node_modules frontend/.next frontend/out frontend/public/vendor .tools .stamps .mypy_cache .ruff_cache .pytest_cache
