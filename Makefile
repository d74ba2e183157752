# make demo   the main job on synthetic boards, a broker inside, no root     DEMO_SECONDS=20 DEMO_SOURCE=folder|file|rtsp://
# make test   all tests that this machine can run; the others say why they are skipped
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check gen bench clean lock help
help: ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "rkfleet needs Python 3.11 or newer; set PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $(READY)

demo: $(READY) ## a trained model finds defects on moving pictures; a subscriber gets every result
	$(BIN)/rkfleet demo $(if $(DEMO_SECONDS),--seconds $(DEMO_SECONDS)) $(if $(DEMO_SOURCE),--source '$(DEMO_SOURCE)')

test: $(READY) ## all tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(READY) ## lint, types, import rules, drift of generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.generate --check
	$(BIN)/python -m tools.diagram --check

gen: $(READY) ## write the JSON Schemas, the AsyncAPI document and the examples
	$(BIN)/python -m tools.generate
	$(BIN)/python -m tools.diagram

bench: $(READY) ## every figure, as ratios against a baseline in the same run, to build/bench/
	$(BIN)/python -m tests.bench

lock: $(READY) ## renew requirements.lock from pyproject.toml
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header --extra dev -o requirements.lock pyproject.toml

clean: ## remove what was built, environments too
	rm -rf build dist *.egg-info .venv .venv-train .venv-convert .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The model kit needs PyTorch and the vendor's converter, each in an environment of its own.
TRAIN := .venv-train
$(TRAIN)/.ready: modelkit/requirements-train.lock
	$(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r modelkit/requirements-train.lock
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $(TRAIN)/.ready

.PHONY: modelkit-test
modelkit-test: $(TRAIN)/.ready ## what of the model kit needs PyTorch and the converter; 4 GB of environments
	$(TRAIN)/bin/python -m modelkit.convert_rknn .venv-convert
	$(TRAIN)/bin/python -m pytest tests/modelkit tests/unit/test_modelkit*.py tests/unit/test_vision_refine.py $(PYTEST_ARGS)

.PHONY: board
board: $(READY) ## the real NPU library on an emulated board: its tests, or a bundle of yours with BUNDLE=folder
	tests/board/setup.sh
ifdef BUNDLE
	$(BIN)/python -m tests.board.try_bundle '$(BUNDLE)'
else
	$(BIN)/python -m pytest tests/board $(PYTEST_ARGS)
endif
