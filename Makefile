# The two commands of the README are `make demo` and `make test`; both install what is missing first.

.PHONY: help demo test build install uninstall benchmarks format lint docs dependencies clean

help:
	@echo "make demo          text from the embedded model, then a table of policies"
	@echo "make test          all tests"
	@echo "make build         the library and the nibble program, optimised"
	@echo "make install       the C library, its header and pkg-config file, into PREFIX (/usr/local) below DESTDIR"
	@echo "make uninstall     takes them away again"
	@echo "make benchmarks    the benchmarks of Benchmarks/, built and run"
	@echo "make format        lay out the Swift and C sources"
	@echo "make lint          check the layout and the documentation comments"
	@echo "make docs          the API documentation, into .build-docs/"
	@echo "make dependencies  install the system libraries"

demo: dependencies
	@scripts/demo.sh

test: dependencies
	@scripts/test.sh

build: dependencies
	swift build -c release

install: dependencies
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" Integrations/C/install.sh

uninstall:
	@PREFIX="$(PREFIX)" DESTDIR="$(DESTDIR)" Integrations/C/install.sh --uninstall

benchmarks: dependencies
	swift package --package-path Benchmarks benchmark

format:
	@scripts/format.sh

lint:
	@scripts/format.sh --check

docs: dependencies
	@scripts/docs.sh

dependencies:
	@scripts/install-dependencies.sh

clean:
	rm -rf .build .build-tests .build-address .build-thread .build-docs Benchmarks/.build
