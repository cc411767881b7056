# make install   the virtual environment .venv, with everything in it
# make demo      a real shop's data through the pipeline, every figure checked
# make test      the tests, on a real Kafka and PostgreSQL that they start and stop themselves; without the latter (Debian:
#                apt-get install postgresql) its cases are skipped, and say so; but for those of make test-long
# make test-long what takes a minute or more each: a short version of make faults, sagas, watches, rebuilds under kills,
#                the tutorial typed; with chromium, pages in a browser, too
# make faults    kills, zombies, cuts, full disks … for MINUTES=30 under load, from SEED=1; every event and row checked
# make pairs     PAIRS=10000 writes, each read in another service while workers are restarted; none may be stale
# make checkouts the shop's invoices by both checkouts, each service killed in turn; FILE=<invoices>, else December
# make restarts  how long a service is away after SIGKILL: warm, cold, taken over by a standby;
#                on a broker with short times, then on one with Kafka's own
# make rolling   what rolling restarts of two workers cost those who wait for replies; some four minutes
# make backlog   how much memory a worker takes on ten million commands
# make bench     beside Kafka Streams and Quix Streams, by the harness at PEERS=<folder>; bench-candidate: as its --candidate
# make bench-smoke  what each step of the engine costs, beside what is on record; under two minutes
# make sizing    what KEYS=100000 keys cost in disk, memory and time, and partitions a broker
# make check     formatting, lint, types
# make docs      the documentation as a site, in build/site; every warning, such as a dead link, is an error. With npm,
#                the pictures are drawn without a network, too
# make simulate  crashes, zombies, lost answers … in a world in memory, for MINUTES=5, from SEED=…; ever new histories
# make fuzz-service  random topologies, HTTP requests and command lines, for MINUTES=60, from SEED=…; none may find anything
# make fuzz      the codec's tests many times over, with sanitizers; needs gcc or clang
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test test-long simulate faults pairs checkouts restarts rolling backlog bench bench-candidate bench-smoke check sizing
.PHONY: docs fuzz fuzz-service lock clean

install: .venv/installed

# In parts, each told as it begins: pip says nothing for minutes while it unpacks what it has fetched. The lock names all
# packages and what they need, so the parts do not depend on each other. On a terminal pip shows its own progress, too.
PIP := $(BIN)/python -m pip install --disable-pip-version-check
PART := 8

.venv/installed: pyproject.toml setup.py requirements.lock pipeline/adapters/avro/_native.c pipeline/model/records/_murmur2.c
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed; name it with: make PYTHON=python3.12 …")'
	@echo "1 of 3: the virtual environment .venv; some 10 seconds"
	@$(PYTHON) -m venv .venv
	@all=$$(grep -c == requirements.lock); \
	echo "2 of 3: $$all packages, some 150 MB to fetch; 1 to 5 minutes, as the network and the machine are"; \
	for from in $$(seq 1 $(PART) $$all); do \
	  to=$$((from + $(PART) - 1)); test $$to -le $$all || to=$$all; \
	  echo "        $$from to $$to: $$(sed -n "$$from,$${to}s/==.*//p" requirements.lock | tr '\n' ' ')"; \
	  sed -n "$$from,$${to}p" requirements.lock | $(PIP) $$(test -t 1 || echo --quiet) --no-deps --requirement /dev/stdin || exit 1; \
	done
	@echo "3 of 3: this project, with its extension in C; some 20 seconds"
	@$(PIP) --quiet --no-deps --editable .
	@touch $@
	@echo "installed; with . .venv/bin/activate the command pipeline is there"

demo: install
	$(BIN)/pipeline demo

# Two files at a time, each pair with brokers of its own: most of a test is waiting. In the order of their names, so that
# the short ones under tests/unit come last, and neither core waits long for the other.
test: install
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

# Faults and kills that take their time, one file after the other.
test-long: install
	$(BIN)/python -m pytest -m long

simulate: MINUTES := 5
simulate: SEED :=
simulate: install
	$(BIN)/python -m tests.simulation --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

MINUTES ?= 30
SEED ?= 1
faults: install
	$(BIN)/python -m tests.faults --minutes $(MINUTES) --seed $(SEED) --json faults.json

PAIRS ?= 10000
pairs: install
	$(BIN)/python -m tests.faults.runs.pairs --pairs $(PAIRS) --seed $(SEED) --json pairs.json

FILE :=
checkouts: install
	$(BIN)/python -m tests.faults.runs.checkouts --checkout saga $(if $(FILE),--file $(FILE))
	$(BIN)/python -m tests.faults.runs.checkouts --checkout 2pc $(if $(FILE),--file $(FILE))

restarts: install
	$(BIN)/python -m tests.faults.runs.restarts
	$(BIN)/python -m tests.faults.runs.restarts --broker-defaults

rolling: install
	$(BIN)/python -m benchmarks.rolling

backlog: install
	$(BIN)/python -m tests.faults.runs.backlog

bench: ROUNDS := 3
bench: install
	$(BIN)/python -m benchmarks.peers.side_by_side --peers $(PEERS) --rounds $(ROUNDS)

bench-candidate: install
	@$(BIN)/python -m benchmarks.peers.side_by_side --print-candidate

bench-smoke: install
	$(BIN)/python -m benchmarks.steps.compare

sizing: KEYS := 100000
sizing: install
	$(BIN)/python -m benchmarks.sizing --keys $(KEYS)

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: install
	@$(BIN)/python docs/hooks/mermaid.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "built; open build/site/index.html"

fuzz: install
	$(BIN)/python -m tests.tools.fuzz_codec

fuzz-service: MINUTES := 60
fuzz-service: SEED :=
fuzz-service: install
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# Pins every package for development, for all supported versions of Python.
lock: install
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --extra broker --extra postgres --extra registry --extra testing --extra tracing --extra develop --extra fastapi --extra docs --extra dev --no-header --no-annotate --upgrade --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .pipeline build *.egg-info pipeline/adapters/avro/*.so pipeline/model/records/*.so
