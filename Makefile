# Every command makes the environment .venv first (tools/bootstrap.py); the second time that takes
# a fraction of a second. `make help` lists the commands; ARGS is handed on to release, grade and
# bench, as in `make grade ARGS=--sample`.

PYTHON ?= python3
JOBS ?= 2
PORT ?= 8000
TORCH ?= auto
TORCH_INDEX ?=
ARGS ?=

export TORCH TORCH_INDEX
# Programs of the environment first: nbgrader and others call each other by name.
RUN := PATH="$(CURDIR)/.venv/bin:$$PATH"
.DEFAULT_GOAL := help
.PHONY: help environment book serve test lab notebooks release grade bench lock clean distclean

help:  ## list the commands
	@echo "make COMMAND, where COMMAND is one of"
	@sed -n 's/^\([a-z]*\):.*##  *\(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | \
	  awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'

environment:  ## make or update .venv (2 to 6 minutes, once)
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "There is no $(PYTHON) here and Python 3.11 or newer is needed: apt-get install python3 python3-venv" >&2; \
	  exit 1; }
	@$(PYTHON) tools/bootstrap.py $(EXTRAS)

book: environment  ## build the book into _build/html (under a minute)
	@echo "Building the book from the stored outputs: under a minute."
	@$(RUN) jupyter-book build book --config _config.yml --path-output . -W --keep-going -q
	@echo
	@echo "The book is in _build/html/index.html. With search: make serve"

serve: book  ## build the book and serve it on this machine
	@echo "Read it at http://localhost:$(PORT)/ (Ctrl-C ends it)"
	@$(RUN) python -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

test: environment  ## run every test (about 35 minutes on 2 cores)
	@echo "Running every test: about 35 minutes on 2 cores."
	@$(RUN) python tools/run_tests.py --jobs $(JOBS)

lab: environment  ## open JupyterLab on the exercises
	@echo "JupyterLab opens in your browser; Ctrl-C here ends it."
	@$(RUN) jupyter lab --notebook-dir . --LabApp.default_url=/lab/tree/exercises

notebooks: environment  ## execute and normalise every notebook of the book (a few minutes)
	@echo "Executing every notebook of the book from nothing: at most a minute each."
	@$(RUN) python tools/notebooks.py --jobs $(JOBS)

release: environment  ## make the student version of each assignment from solutions/
	@$(RUN) python tools/grade.py release $(ARGS)

grade: environment  ## grade what was submitted, in a sandbox; feedback and grades in grading/
	@$(RUN) python tools/grade.py grade $(ARGS)

bench: EXTRAS = --extra benchmark
bench: environment  ## measure training against plain implementations (a few minutes)
	@$(RUN) python benchmarks/bench.py $(ARGS)

lock: environment  ## resolve the pinned versions again (constraints.txt)
	@$(RUN) python tools/lock.py

clean:  ## remove what was built, keep the environment and what was submitted
	rm -rf _build build .pytest_cache .ruff_cache .hypothesis .make/*.xml
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean  ## remove the environment too
	rm -rf .venv .make icl_lessons.egg-info
