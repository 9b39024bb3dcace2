# Sentinel. `make` alone lists the targets.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
BIN := .venv/bin
IMAGES := exporter webhook
unexport PYTHONDONTWRITEBYTECODE # without compiled files, every process compiles all that it imports

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: .venv/run.stamp ## start the whole stack with demo payments; TRANSACTIONS=FILE replays your own, OPTIONS="--help" lists more
	@sh demo/packages.sh prometheus=prometheus promtool=prometheus amtool=prometheus-alertmanager \
	  'prometheus-alertmanager|alertmanager=prometheus-alertmanager'
	@exec $(BIN)/python -m demo.run $(if $(TRANSACTIONS),--transactions '$(TRANSACTIONS)') $(OPTIONS)

.PHONY: attack
attack: .venv/run.stamp ## attack a merchant of the running demo: MERCHANT=acc_007 TYPE=card_testing [MINUTES=3]
	@$(BIN)/python -m demo attack start --merchant '$(MERCHANT)' --type '$(TYPE)' $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: attack-stop
attack-stop: .venv/run.stamp ## stop the attack on MERCHANT=…
	@$(BIN)/python -m demo attack stop --merchant '$(MERCHANT)'

.PHONY: report
report: .venv/run.stamp ## what the rules made of a replay: merchants alerted, labelled frauds covered, alerts without fraud
	@$(BIN)/python -m demo report

.PHONY: clean
clean: ## forget the demo's data (the virtual environment stays)
	rm -rf .run

.PHONY: test
test: .venv/dev.stamp test-packages ## everything that is tested: lint, types, imports, rules, and all tests over real servers
	@$(MAKE) --jobs=2 --output-sync=target lint check-rules
	@$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

.PHONY: lint
lint: .venv/dev.stamp ## style, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: check-rules
check-rules: .venv/dev.stamp test-packages ## check and test the Prometheus rules and the Alertmanager routes
	@$(BIN)/python -m webhook rules check prometheus/rules/*.yml --config demo/exporter-config.yaml
	promtool check config prometheus/prometheus.yml
	amtool check-config alertmanager/alertmanager.yml

.PHONY: test-packages
test-packages:
	@sh demo/packages.sh prometheus=prometheus promtool=prometheus \
	  prometheus-alertmanager=prometheus-alertmanager amtool=prometheus-alertmanager initdb=postgresql \
	  mariadbd=mariadb-server redis-server=redis-server chromium=chromium chromedriver=chromium-driver \
	  kubectl=kubernetes-client docker-compose=docker-compose

.PHONY: drill
drill: .venv/dev.stamp drill-packages ## kill, lock, fill and break parts of the stack: nothing lost, nothing twice? DRILLS="serve slack" OPTIONS="--help"
	@$(BIN)/python -m drills $(OPTIONS) $(DRILLS)

.PHONY: soak
soak: .venv/dev.stamp drill-packages ## half an hour at 200 alerts/s: flat memory, empty outbox, nothing lost (OPTIONS="--minutes 3 --rate 50")
	@$(BIN)/python -m drills.soak $(OPTIONS)

.PHONY: drill-packages
drill-packages:
	@sh demo/packages.sh prometheus=prometheus prometheus-alertmanager=prometheus-alertmanager initdb=postgresql \
	  redis-server=redis-server

.PHONY: fuzz
fuzz: .venv/dev.stamp ## the property tests with other and more examples than `make test` draws (OPTIONS="-k NAME")
	@$(BIN)/python -m pytest -q tests/unit --hypothesis-profile=fuzz $(OPTIONS)

.PHONY: bench-exporter
bench-exporter: .venv/dev.stamp .bench/sentinel/stamp .bench/exporters/stamp ## the exporter beside its peers: speed, CPU, memory (half an hour; OPTIONS="--help")
	@sh demo/packages.sh initdb=postgresql prometheus-sql-exporter=prometheus-sql-exporter nginx=nginx-light
	@$(BIN)/python -m bench.exporter --python .bench/sentinel/bin/python --query-exporter .bench/exporters/bin/query-exporter $(OPTIONS)

.PHONY: bench-sources
bench-sources: .venv/dev.stamp ## do 500 sources keep their schedule? schedule lag, CPU, memory, threads (OPTIONS="--help")
	@sh demo/packages.sh initdb=postgresql
	@$(BIN)/python -m bench.many_sources $(OPTIONS)

.PHONY: dashboards
dashboards: .venv/dev.stamp ## write grafana/dashboards/ anew from the code beside it
	@$(BIN)/python -m grafana

.PHONY: docs
docs: .venv/dev.stamp ## write docs/reference/ anew from the models
	@$(BIN)/python -m docs.generate

.PHONY: compose-secrets
compose-secrets: ## random passwords and tokens for compose.yaml and k8s/, in deploy/secrets/; what is there stays
	@sh deploy/secrets.sh

.PHONY: k8s
k8s: .venv/dev.stamp ## write anew what of k8s/ follows from prometheus/, alertmanager/ and grafana/
	@$(BIN)/python -m k8s.generate

.PHONY: k8s-show
k8s-show: ## print what would be deployed: OVERLAY=dev, prod or prometheus-operator
	@sh demo/packages.sh kubectl=kubernetes-client
	@kubectl kustomize k8s/overlays/$(OVERLAY)
OVERLAY = prod

.PHONY: image-steps
image-steps: $(IMAGES:%=image-steps-%) ## what the Dockerfile does, without an engine: each image's environment from its lock, tried out, its size (some minutes)

.PHONY: $(IMAGES:%=image-steps-%)
$(IMAGES:%=image-steps-%): image-steps-%:
	@rm -rf .bench/image/$* && mkdir -p .bench/image/$*
	@cp -r --parents deploy/image.sh requirements.lock requirements-$*-image.lock pyproject.toml README.md $(SOURCES_$*) .bench/image/$*
	@cd .bench/image/$* && sh deploy/image.sh libraries $* '$(CURDIR)/.bench/image/$*/venv'
	@cd .bench/image/$* && sh deploy/image.sh package $* '$(CURDIR)/.bench/image/$*/venv'
	@sh deploy/image.sh check $* '$(CURDIR)/.bench/image/$*/venv'
	@du -sh .bench/image/$*/venv
SOURCES_exporter = exporter
SOURCES_webhook = webhook docs/runbooks

.PHONY: bench-stored
bench-stored: .venv/dev.stamp ## the receiver and the queries over a million triggers: latency, plans (OPTIONS="--help")
	@sh demo/packages.sh initdb=postgresql
	@$(BIN)/python -m bench.stored $(OPTIONS)

.PHONY: bench-delivery
bench-delivery: .venv/dev.stamp ## from a payload to the call that Slack gets: p50, p99 (OPTIONS="--help")
	@sh demo/packages.sh initdb=postgresql
	@$(BIN)/python -m bench.delivery $(OPTIONS)

.PHONY: bench-charts
bench-charts: .venv/dev.stamp ## how long a chart takes: median, p99, size (OPTIONS="--help")
	@$(BIN)/python -m bench.charts $(OPTIONS)

.PHONY: bench-webhook
bench-webhook: .venv/dev.stamp .bench/alerta/stamp ## the receiver beside Alerta: alerts a second, latency, nothing lost (OPTIONS="--help")
	@sh demo/packages.sh initdb=postgresql wrk=wrk
	@$(BIN)/python -m bench.webhook --alerta .bench/alerta/bin/gunicorn $(OPTIONS)

.PHONY: bench-preview
bench-preview: .venv/dev.stamp ## previews of a configuration over 100,000 triggers, on SQLite and PostgreSQL (OPTIONS="--help")
	@sh demo/packages.sh initdb=postgresql
	@$(BIN)/python -m bench.preview $(OPTIONS)

.PHONY: format
format: .venv/dev.stamp ## put the code into its format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: .venv/dev.stamp ## renew the lock files from pyproject.toml (exact versions, hashes, no addresses)
	$(BIN)/uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra dev -o requirements-dev.lock
	$(BIN)/uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra demo -c requirements-dev.lock -o requirements.lock
	for image in $(IMAGES); do $(BIN)/uv pip compile pyproject.toml $(LOCK_OPTIONS) --extra $$image-image \
	  -c requirements-dev.lock -o requirements-$$image-image.lock || exit; done
LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-header --no-annotate

.venv/run.stamp: requirements.lock pyproject.toml
	@[ -e .venv/dev.stamp ] && [ .venv/dev.stamp -nt requirements.lock ] && touch $@ || sh demo/venv.sh requirements.lock $@

.venv/dev.stamp: requirements-dev.lock pyproject.toml
	@sh demo/venv.sh requirements-dev.lock $@

# The peers have environments of their own: what they need must not meet what we need.
.bench/%/stamp: bench/%.lock
	@python3 -m venv --clear .bench/$*
	@.bench/$*/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@
