#!/bin/sh
# Cross-compiles the library for AArch64 from the same sources: build/aarch64/libswiftmax.so.0.
#
# The Swift toolchain for Linux has no AArch64 Linux standard library, but Embedded Swift needs none:
# the objects of the freestanding target link with any AArch64 libc. SwiftPM cannot mix that target
# with C for Linux, so the modules are compiled here, in the order in which they import one another.
#
# Needs swiftc and clang of the Swift toolchain, and Debian's gcc-aarch64-linux-gnu (linker, libc).
# Usage: scripts/build_aarch64.sh [output folder]
set -eu
cd "$(dirname "$0")/.."

out=${1:-build/aarch64}
cc=${AARCH64_CC:-aarch64-linux-gnu-gcc}
swiftc=${SWIFTC:-swiftc}
for tool in "$swiftc" "$cc"; do
  command -v "$tool" >/dev/null || { echo "build_aarch64: $tool is not on PATH" >&2; exit 1; }
done
clang=${CLANG:-$(dirname "$(command -v "$swiftc")")/clang}
soname=libswiftmax.so.0
mkdir -p "$out"
objects=$(mktemp -d "$out/objects.XXXXXX")
trap 'rm -rf "$objects"' EXIT

# -fPIC is what Embedded Swift emits for this target; the link below fails loudly if that changes
# (-z text). Kernels and ABI are optimised alike; the ABI's code is small.
compile() {
  module=$1
  shift
  "$swiftc" -target aarch64-none-none-elf -swift-version 6 -parse-as-library -wmo -Ounchecked \
    -enable-experimental-feature Embedded -enable-experimental-feature Extern \
    -Xfrontend -disable-stack-protector -Xcc -march=armv8-a -Xcc -fPIC \
    -I Include -I Sources/CSupport/include -I "$objects" -module-name "$module" "$@"
}

compile Kernels -emit-module -emit-module-path "$objects/Kernels.swiftmodule" \
  Sources/Kernels/*.swift
compile KernelsNEON -c -o "$objects/KernelsNEON.o" Sources/KernelsNEON/*.swift &
kernels=$!
compile Swiftmax -c -o "$objects/Swiftmax.o" Sources/Swiftmax/*.swift
wait $kernels

# Clang, for the headers say _Nonnull; the libc headers are the cross compiler's.
include=$("$cc" -print-sysroot)/usr/aarch64-linux-gnu/include
for source in Sources/CSupport/*.c; do
  "$clang" --target=aarch64-linux-gnu -isystem "$include" -std=c11 -O2 -fPIC \
    -fvisibility=hidden -Wall -Wextra -fstack-protector-strong -I Sources/CSupport/include \
    -c -o "$objects/$(basename "$source" .c).o" "$source"
done

# Both Swift objects carry weak runtime symbols; the export list keeps them inside, as on x86-64.
"$cc" -shared -o "$out/$soname" "$objects"/*.o -Wl,--version-script=scripts/exports.map \
  -Wl,-soname,$soname -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,-z,nodelete -Wl,-z,defs \
  -Wl,-z,text -Wl,--gc-sections -Wl,--strip-all -Wl,--build-id=sha1 -lm
ln -sf $soname "$out/libswiftmax.so"

foreign=$(nm -D --defined-only "$out/$soname" | awk '$3 !~ /^smx_/ { print $3 }')
[ -z "$foreign" ] || { echo "build_aarch64: exported besides smx_*: $foreign" >&2; exit 1; }
echo "$out/$soname: $(stat -c %s "$out/$soname") bytes"
