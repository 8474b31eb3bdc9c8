# Everything a developer types. Each target says what is missing in one sentence.

.PHONY: help run test fuzz test-browser test-matrix soak bench test-charts test-rules test-demo demo image

help:
	@echo 'make run           nats-server and natsway, with three commands to try'
	@echo 'make demo          the order and stock example, with a natsway beside each service'
	@echo 'make test          formatting, clippy, the charts, all tests but those below'
	@echo 'make test-browser  EventSource and WebSocket in Chromium'
	@echo 'make test-matrix   the integration tests on every supported nats-server'
	@echo 'make test-charts   the Helm charts and the plain YAML, rendered and checked'
	@echo 'make test-rules    the alerts and the dashboard, through promtool'
	@echo 'make test-demo     the demo, clicked through in Chromium (part of test-browser)'
	@echo 'make bench         natsway against the limits it stands on'
	@echo 'make image         the container image, without Docker: its size, and a run under restrictions'
	@echo 'make soak          the fault and load tests, long'
	@echo 'make fuzz          random input for the parsers; MINUTES=1 each'

run:
	@tools/run

test:
	@tools/test

test-browser:
	@tools/test-browser

test-matrix:
	@tools/test-matrix

soak:
	@tools/soak

fuzz:
	@tools/fuzz

bench:
	@tools/bench

test-charts:
	@tools/test-charts

test-rules:
	@tools/test-rules

demo:
	@tools/demo

test-demo:
	@tools/test-demo

image:
	@tools/image
