.DEFAULT_GOAL := help
.PHONY: help setup check test format constraints

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 14

setup: ## Make .venv and install into it
	@./run setup

check: ## Lint, types and the rules of the imports
	@./run check

test: ## The test suite; make test ARGS="-k sender"
	@./run test $(ARGS)

format: ## Sort the imports and format
	@./run --extra dev setup
	@.venv/bin/ruff check --quiet --select I --fix
	@.venv/bin/ruff format --quiet

# torch and what its CUDA build or onnxruntime-gpu drag in are left out: which build fits is the
# machine's affair, and a pin of the one would forbid the other.
COMPILE = uv pip compile --quiet --universal --no-header --no-annotate --python-version 3.11 pyproject.toml
constraints: ## Write constraints.txt anew with the newest releases (needs uv)
	@set -e; new=$$(mktemp); trap 'rm -f "$$new"' EXIT; \
	$(COMPILE) --extra cpu --extra train --extra postgres --extra otel --extra oidc --extra dev >"$$new"; \
	$(COMPILE) --extra gpu | grep '^onnxruntime-gpu==' >>"$$new"; \
	{ sed -n '/^#/p' constraints.txt; grep -Ev '^(torch|triton|nvidia-|cuda-)' "$$new" | LC_ALL=C sort; } >constraints.new; \
	mv constraints.new constraints.txt
