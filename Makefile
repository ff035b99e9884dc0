# Every command of the repository; CI runs the same ones.
.DEFAULT_GOAL := help
# What deploys: see deploy/.
DEPLOY := .venv/.deploy
.PHONY: images sbom manifests test-compose test-containers test-k8s audit drill
.PHONY: help asyncapi run clean-run demo test screenshots threats conformance fuzz chaos overload simulate bench bench-peers bench-scim lint format env broken
BIN := .venv/bin
LOCKED := requirements/dev.txt $(wildcard libs/*/pyproject.toml services/*/pyproject.toml devstack/pyproject.toml tests-e2e/pyproject.toml simulators/pyproject.toml chaos/pyproject.toml)
# An interpreter that was removed leaves an environment behind that looks complete.
BROKEN := $(shell $(BIN)/python -c pass 2>/dev/null || echo broken)

help: ## show this
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1	/p' Makefile | expand -t 14

run: .venv/.complete ## start everything and stay in the foreground; Ctrl-C stops it
	@exec $(BIN)/python -m devstack run

clean-run: .venv/.complete ## delete the data, secrets and logs of `make run`
	@exec $(BIN)/python -m devstack clean

demo: .venv/.complete ## four identity providers push a made-up company; USERS=500, PACE=20 events a second, SEED=1, STAY=1
	@exec $(BIN)/python -m simulators.demo

test: .venv/.complete ## run all tests; ARGS="libs/scim -k filter" runs some, LONG=1 also the long ones
	@$(if $(ARGS),,scripts/chromium >/dev/null)
	@exec $(BIN)/python -m pytest $(or $(ARGS),-n 2 --dist loadscope)

threats: .venv/.complete ## print the rows of the threat model with their tests; fails when one has none
	@$(BIN)/python scripts/threats

screenshots: .venv/.complete ## take the screenshots of docs/screenshots/ again, from a console with made-up people
	@$(BIN)/python scripts/screenshots

conformance: .venv/.complete ## play the identity providers' cases against a server: URL=... TOKEN=... [ARGS=...]
	@$(BIN)/python -m e2e.conformance --url "$(URL)" --token "$(TOKEN)" $(ARGS)

fuzz: .venv/.complete ## search for inputs that break the parsers or the gateway; SECONDS=60 for each parser
	@mkdir -p .cache/fuzz
	@for target in json resource filter path patch bulk; do echo "== $$target"; \
	  $(BIN)/python libs/scim/tests/test_fuzz.py $$target -max_total_time=$(or $(SECONDS),60) -print_final_stats=0 \
	  -verbosity=0 -artifact_prefix=.cache/fuzz/ || exit 1; done
	@FUZZ_EXAMPLES=5000 $(BIN)/python -m pytest services/scim-gateway/tests/test_fuzz.py services/scim-gateway/tests/test_openapi.py \
	  --timeout=1800

asyncapi: .venv/.complete ## renew docs/asyncapi.json; refuses what older readers would get wrong
	@$(BIN)/python -m contracts.asyncapi docs/asyncapi.json

chaos: .venv/.complete ## faults against the real processes, every promise checked; FAULTS=30, SEED=... for a run again
	@exec $(BIN)/python -m chaos run --faults $(or $(FAULTS),30) $(if $(SEED),--seed $(SEED)) $(ARGS)

overload: .venv/.complete ## five times the load that can be served, and who is still served; STACK=stack.json of one that runs
	@exec $(BIN)/python -m chaos overload $(if $(STACK),--stack $(STACK))

simulate: .venv/.complete ## the pure core through simulated faults; SEEDS=1000 of them, SEED=... for one again
	@exec $(BIN)/python -m chaos simulate --seeds $(or $(SEEDS),1000) $(if $(SEED),--seed $(SEED))

bench-scim: .venv/.complete ## measure libs/scim: microseconds for each request
	@$(BIN)/python bench/library.py

bench: bench-scim ## what depends on size: groups of 10,000, lists of 100,000
	@$(BIN)/python bench/groups.py
	@$(BIN)/python bench/lists.py

bench-peers: .venv/.complete ## our server and its peers in turns: the table of docs/performance.md; ARGS="--rounds 1"
	@$(BIN)/python bench/peers.py $(ARGS)

images: ## build the container images; VERSION=dev
	@deploy/docker/build-images

sbom: $(DEPLOY) ## write an SBOM (CycloneDX) for each image to dist/sbom
	@$(BIN)/python deploy/supply_chain.py sbom

audit: $(DEPLOY) ## ask the package index for known vulnerabilities of what the images hold; check the licences
	@$(BIN)/python deploy/supply_chain.py licences
	@$(BIN)/python deploy/supply_chain.py audit

manifests: $(DEPLOY) ## validate the Kubernetes manifests strictly, and their policies
	@$(BIN)/python -m pytest deploy/tests/test_manifests.py $(ARGS)

test-compose: images $(DEPLOY) ## run the system with docker compose, and the black-box tests against it
	@$(BIN)/python -m pytest deploy/tests/test_proxy.py deploy/tests/test_compose.py $(ARGS)

test-containers: images $(DEPLOY) ## the black-box tests against the images in testcontainers
	@$(BIN)/python -m pytest deploy/tests/test_containers.py $(ARGS)

test-k8s: images $(DEPLOY) ## the same in a Kubernetes cluster: ../shared's, or the one that KUBECONFIG names
	@$(BIN)/python -m pytest deploy/tests/test_kubernetes.py $(ARGS)

drill: .venv/.complete ## back up under load, destroy Postgres, restore, replay from the log; WRITES=400
	@exec $(BIN)/python deploy/drill.py

lint: $(DEPLOY) ## check style, types and import rules
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pyright
	@$(BIN)/lint-imports

format: .venv/.complete ## put the code into its format
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

env: .venv/.complete ## make or renew .venv; get Chromium for the tests of the console
	@scripts/chromium >/dev/null

.venv/.complete: scripts/make-env $(LOCKED) $(BROKEN)
	@scripts/make-env
	@touch $@

.venv/.deploy: .venv/.complete requirements/deploy.txt
	@$(BIN)/uv pip install -q --python .venv --require-hashes -r requirements/deploy.txt
	@touch $@

broken: ;
