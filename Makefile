# make run         serve the dashboard
# make test        run the tests: four minutes on two cores
# make test-all    run them all, with those marked `slow`: they repeat more deeply what a quick test covers
# make check       lint and types
# The first call of any makes the virtual environment (.venv) and installs what is needed; later ones start at once.
# Some tests only: make test TESTS=tests/attacks, make test TESTS='-k pgd'. With more workers than two: TESTS='-n 8'.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# neighbours stay on one worker, so that what they share is made once; who is done first takes from the others
PARALLEL := --numprocesses auto --dist worksteal

.PHONY: run test test-all check format clean

run: $(VENV)/.run
	$(BIN)/streamlit run dashboard.py

test: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow" $(TESTS)

test-all: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) $(TESTS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV)

$(VENV)/.run: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Adversarial Lab needs Python 3.11 or newer; name one: make run PYTHON=python3.12"; exit 1; }
	@echo "Setting up $(VENV) (once, a few minutes: PyTorch is large)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: $(VENV)/.run requirements-dev.txt requirements-onnx.txt requirements-timm.txt requirements-auth.txt requirements-ray.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@
