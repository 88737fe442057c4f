# Two commands for a newcomer: make demo, which ends with a page in the browser, and make test. Nothing but Python 3.11 or newer
# and make is needed first.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test verify lint types docs docs-check check lock clean oracle clusters peers browser trackers

demo: .venv/.installed
	@out=runs/demo-$$(date +%Y%m%d-%H%M%S); $(BIN)/mutagrad train --data digits --generations 1500 --out $$out --open \
	  && echo "figure           $$out/training.png"

test: .venv/.installed
	$(BIN)/python -m pytest -n 2

# Everything that convinces a sceptic: all tests, those at full size too, and the heavy statistics. Hours.
verify: .venv/.installed .oracle/.installed .clusters/.installed .browser/.installed .trackers/.installed
	# Compiled as users compile: make test asks for less optimisation, which is faster to compile.
	XLA_FLAGS= $(BIN)/python -m pytest -n 2 -m "verify or not verify"
	@set -e; for script in verification/*.py; do [ $$script = verification/common.py ] || { echo $$script; $(BIN)/python -m $$(echo $${script%.py} | tr / .); }; done

# Independent simulators that genomes are compared with, in an environment of their own.
oracle: .oracle/.installed

.oracle/.installed: verification/oracles/requirements.txt
	$(PYTHON) -m venv .oracle
	.oracle/bin/python -m pip install --quiet --requirement verification/oracles/requirements.txt
	@touch $@

# Clusters that the executor is tried on, in an environment of their own above .venv.
clusters: .clusters/.installed

.clusters/.installed: verification/clusters/requirements.txt .venv/.installed
	$(PYTHON) -m venv .clusters
	@$(BIN)/python -c 'import os, sysconfig; print(sysconfig.get_path("purelib"), os.path.abspath("src"), sep="\n")' > $$(.clusters/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mutagrad_environment.pth
	.clusters/bin/python -m pip install --quiet --requirement verification/clusters/requirements.txt
	@touch $@

# Peers, in an environment of their own above .venv, and the table of benchmarks/results/peers.md. An hour and a half on a quiet
# machine; what was measured is kept in .peers, and a run that was stopped goes on.
peers: .peers/.installed
	.peers/bin/python -m benchmarks.peers --kept .peers/measured.jsonl

.peers/.installed: benchmarks/peers/requirements.txt .venv/.installed
	$(PYTHON) -m venv .peers
	@$(BIN)/python -c 'import os, sysconfig; print(sysconfig.get_path("purelib"), os.path.abspath("src"), sep="\n")' > $$(.peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mutagrad_environment.pth
	.peers/bin/python -m pip install --quiet --requirement benchmarks/peers/requirements.txt
	@touch $@

# The site, in an environment of its own above .venv, into docs/_build/html: pages run, warnings are errors, spelling and links
# are checked. Nothing is fetched once the environment is there.
docs: .docs/.installed
	.docs/bin/python docs/_ext/stage.py
	.docs/bin/python -m sphinx --fresh-env --fail-on-warning --keep-going --quiet --builder html --conf-dir docs docs/_build/source docs/_build/html
	.docs/bin/python docs/_ext/links.py

# The built site in a browser: search, contrast, widths. BROWSER is a Python with Playwright, AXE the file of axe-core; verification/site.py
# says what else it needs, and does nothing without it.
BROWSER ?= .docs/bin/python
AXE ?= axe.min.js
docs-check: docs
	$(BROWSER) -m verification.site --axe $(AXE)

.docs/.installed: docs/requirements.txt $(wildcard docs/gallery/requirements.txt) .venv/.installed
	$(PYTHON) -m venv .docs
	@echo '*' > .docs/.gitignore
	@$(BIN)/python -c 'import os, sysconfig; print(sysconfig.get_path("purelib"), os.path.abspath("src"), sep="\n")' > $$(.docs/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mutagrad_environment.pth
	.docs/bin/python -m pip install --quiet $(patsubst %,--requirement %,$(filter %.txt,$^))
	@touch $@

# A browser's driver and the checker of accessibility, for the run page; Chromium itself, and npm, come from the system.
browser: .browser/.installed

.browser/.installed: verification/browser/requirements.txt verification/browser/package.json
	$(PYTHON) -m venv .browser
	.browser/bin/python -m pip install --quiet --requirement verification/browser/requirements.txt
	cp verification/browser/package.json .browser/ && npm install --silent --prefix .browser
	@touch $@

# Trackers that runs are written with, in an environment of their own above .venv.
trackers: .trackers/.installed

.trackers/.installed: verification/trackers/requirements.txt .venv/.installed
	$(PYTHON) -m venv .trackers
	@$(BIN)/python -c 'import os, sysconfig; print(sysconfig.get_path("purelib"), os.path.abspath("src"), sep="\n")' > $$(.trackers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mutagrad_environment.pth
	.trackers/bin/python -m pip install --quiet --requirement verification/trackers/requirements.txt
	@touch $@

lint: .venv/.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/.installed
	$(BIN)/mypy

check: lint types test

# JAX stopped at 0.10 for Python 3.11: that Python has locked versions of its own.
LOCK := $(shell $(PYTHON) -c 'import sys; print("requirements-3.11.lock" if sys.version_info < (3, 12) else "requirements-3.12.lock")')

.venv/.installed: $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mutagrad needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement $(LOCK)
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

# The locked versions: resolved by uv for every platform, from the ranges in pyproject.toml; 3.12 stands for all newer Pythons.
lock:
	$(BIN)/python -m pip install --quiet uv
	for version in 3.11 3.12; do \
	  $(BIN)/uv pip compile --quiet --upgrade --universal --fork-strategy fewest --python-version $$version --all-extras --no-header \
	    --no-emit-index-url --no-emit-find-links pyproject.toml --output-file requirements-$$version.lock || exit 1; \
	done

clean:
	rm -rf .venv .oracle .clusters .docs .peers .browser .trackers docs/_build runs build dist
