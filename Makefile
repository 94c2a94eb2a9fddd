# Everything runs in .venv, which the first command makes with PYTHON (3.11 or newer).
PYTHON ?= python3

# What the browser runs the pipeline and decodes films with, from the npm registry.
RUNTIME = sample_app/vendor/onnxruntime-web/LICENSE sample_app/vendor/litert/LICENSE sample_app/vendor/dcmjs-codecs/LICENSE

SUITES ?= two-view browser browser-one-thread browser-throttled cold screening shared

.PHONY: demo test lint bench gpu clean

demo: .venv/installed  ## the main job end to end on simulated films, ending in runs/demo/report.html
	.venv/bin/edgekit demo

test: lint $(RUNTIME)  ## lint, types and tests
	.venv/bin/pytest -m 'not slow and not gpu and not macos'

lint: .venv/installed  ## lint and types
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

bench: .venv/bench  ## every suite of benchmarks/ that is not smoke, ending in build/benchmarks.html; see benchmarks/README.md
	@test -n "$(RUN)" -a -n "$(B0_RUN)" -a -n "$(STUDIES)" -a -n "$(BUNDLES)" || { echo 'make bench RUN=... B0_RUN=... STUDIES=... BUNDLES="..."'; exit 2; }
	set -e; for suite in $(SUITES); do .venv/bin/python benchmarks/run.py $$suite --run $(RUN) --b0-run $(B0_RUN) \
	  --studies $(STUDIES) --bundle $(BUNDLES) --out benchmarks/results/$$suite.json; done
	.venv/bin/python benchmarks/page.py build/benchmarks.html --readme benchmarks/README.md

gpu:  ## all that needs an NVIDIA GPU, in twelve minutes, with what is installed; ends in benchmarks/results/gpu.json
	PYTHONPATH=. $(or $(wildcard .venv/bin/python),$(PYTHON)) benchmarks/gpu --device cuda --out benchmarks/results/gpu.json

clean:  ## the environment and caches; what you made in runs/ and build/ stays
	rm -rf .venv dist sample_app/node_modules sample_app/vendor .mypy_cache .pytest_cache .ruff_cache
	find edgekit export benchmarks tests -name __pycache__ -prune -exec rm -rf {} +

$(RUNTIME): sample_app/package-lock.json sample_app/vendor.mjs
	npm ci --prefix sample_app --no-audit --no-fund

.venv/bench: .venv/installed
	.venv/bin/pip install --disable-pip-version-check -c constraints.txt -e '.[all,bench]'
	touch $@

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --disable-pip-version-check -c constraints.txt -e '.[all]'
	touch $@
