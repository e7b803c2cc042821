# Two commands are enough: `make demo` and `make test`. Both install what they need into .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.PHONY: demo test lint install schema clean

demo: install
	$(BIN)/guidedmix tune search/demo

test: install
	$(BIN)/python -m pytest -n 2

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

install: $(VENV)/installed

# uv takes about a minute, plain pip several; either gives the same pinned versions.
$(VENV)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "guidedmix needs Python 3.11 or newer, not " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	if command -v uv >/dev/null 2>&1; then uv pip install --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[bundled,dev]'; \
	elif $(BIN)/python -m pip install --quiet uv; then $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python -c constraints.txt -e '.[bundled,dev]'; \
	else $(BIN)/python -m pip install -c constraints.txt -e '.[bundled,dev]'; fi
	touch $@

# The JSON Schemas that editors complete our YAML with.
schema: install
	$(BIN)/guidedmix schema

clean:
	rm -rf $(VENV) studies
