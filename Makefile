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

.PHONY: help build check install test demo bench accuracy exhaustive clean
help:  ## print this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  \1\t\2/' | expand -t 16

build: $(LIBRARY)  ## build build/libswiftmax.so.0 and check its symbols

$(LIBRARY): $(SOURCES)
	@command -v $(SWIFT) >/dev/null || { echo "swiftmax: the Swift toolchain (6.3 or later) is not on PATH; see https://swift.org/install" >&2; exit 1; }
	$(SWIFT) build -c release --scratch-path $(SCRATCH)
	mkdir -p build
	$(CLANG) $(LDFLAGS_SO) -o $(LIBRARY) $(OBJECTS) -lm
	ln -sf $(SONAME) build/libswiftmax.so
	$(PYTHON) scripts/check_symbols.py --library $(LIBRARY) --header Include/swiftmax.h $(OBJECTS) || { rm -f $(LIBRARY); exit 1; }

clean:  ## remove everything that was built
	rm -rf .build .build-* build $(VENV) python/build python/src/*.egg-info
