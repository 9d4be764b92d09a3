#!/bin/sh
# Installs into a temporary folder, then builds programs outside the tree: through pkg-config,
# through CMake's find_package, the C examples, and in Swift; then once more after the folder was moved.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
passed=0

ok() {
  passed=$((passed + 1))
  echo "ok   $*"
}

fail() {
  echo "FAIL $*" >&2
  exit 1
}

# run LOG COMMAND...: quiet unless it fails.
run() {
  log=$work/$1.log
  shift
  "$@" >"$log" 2>&1 || { cat "$log" >&2; fail "$*"; }
}

for tool in make cc pkg-config cmake swiftc; do
  command -v $tool >/dev/null || fail "$tool is missing; see scripts/install_system_packages.sh"
done
version=$(sed -n 's/^VERSION *:= *//p' "$root/Makefile")
mkdir "$work/outside"
cp "$root/Tests/package/use.c" "$root/Tests/package/use.swift" "$root/Tests/package/CMakeLists.txt" "$work/outside"
cp -R "$root/examples/c" "$work/examples"

# 1. A plain prefix, and what is in it.
prefix=$work/prefix
run install make -C "$root" install PREFIX="$prefix"
for file in lib/libswiftmax.so.0 lib/libswiftmax.so include/swiftmax.h include/swiftmax_attention.h \
            include/swiftmax_decoding.h include/swiftmax_training.h lib/pkgconfig/swiftmax.pc \
            lib/cmake/swiftmax/swiftmaxConfig.cmake \
            lib/cmake/swiftmax/swiftmaxConfigVersion.cmake include/CSwiftmax/module.modulemap; do
  [ -f "$prefix/$file" ] || fail "install left out $file"
done
[ "$(readlink "$prefix/lib/libswiftmax.so")" = libswiftmax.so.0 ] \
  || fail "libswiftmax.so is not a relative link"
[ "$(find "$prefix" ! -type d | wc -l)" -eq 10 ] || fail "install wrote more than ten files"
if grep -l '@[A-Z]*@' "$prefix"/lib/pkgconfig/* "$prefix"/lib/cmake/swiftmax/*; then
  fail "a placeholder was left in the files above"
fi
ok "install: ten files under the prefix"

# through_pkg_config NAME LIBDIR [OPTION...]: builds and runs use.c.
through_pkg_config() {
  name=$1 libdir=$2
  shift 2
  flags=$(PKG_CONFIG_PATH="$libdir/pkgconfig" pkg-config "$@" --cflags --libs swiftmax)
  # Unquoted: a list of words. The paths of mktemp have no blanks.
  # shellcheck disable=SC2086
  run "$name" cc -std=c99 -Wall -Wextra -Werror -pedantic "$work/outside/use.c" \
    -o "$work/$name" $flags "-Wl,-rpath,$libdir"
  run "$name-run" "$work/$name"
  ldd "$work/$name" | grep -q "$libdir/libswiftmax.so.0" || fail "$name runs with another library"
}

# through_cmake NAME LIBDIR
through_cmake() {
  run "$1-configure" cmake -S "$work/outside" -B "$work/$1" -Dswiftmax_DIR="$2/cmake/swiftmax" \
    -DWANTED="${version%.*}" -DCMAKE_BUILD_TYPE=Release
  run "$1-build" cmake --build "$work/$1"
  run "$1-run" "$work/$1/use"
  ldd "$work/$1/use" | grep -q "$2/libswiftmax.so.0" || fail "$1 runs with another library"
}

# 2. Both routes.
through_pkg_config pkg "$prefix/lib"
[ "$(PKG_CONFIG_PATH="$prefix/lib/pkgconfig" pkg-config --modversion swiftmax)" = "$version" ] \
  || fail "pkg-config gives another version than the Makefile"
ok "pkg-config: builds, runs, version $version"
through_cmake cmake "$prefix/lib"
for wrong in 9.0 0.0; do
  if cmake -S "$work/outside" -B "$work/wrong$wrong" -Dswiftmax_DIR="$prefix/lib/cmake/swiftmax" \
    -DWANTED=$wrong >"$work/wrong.log" 2>&1; then
    fail "a request for swiftmax $wrong was granted"
  fi
done
ok "CMake: find_package, builds, runs; versions 9.0 and 0.0 are refused"

# 3. The examples, with the compiler's warnings as errors.
run examples make -C "$work/examples" run PKG_CONFIG_PATH="$prefix/lib/pkgconfig"
for program in "$work"/examples/*.c; do
  [ -x "${program%.c}" ] || fail "the Makefile of examples/c does not know $(basename "$program")"
done
ok "examples/c: $(find "$work/examples" -name '*.c' | wc -l) programs build and run"

# The program of the README.
run swift swiftc -I "$prefix/include" "$work/outside/use.swift" -L "$prefix/lib" -lswiftmax \
  -Xlinker -rpath -Xlinker "$prefix/lib" -o "$work/swift"
[ "$("$work/swift")" = "[0.6590011, 0.24243297, 0.09856589]" ] || fail "Swift: $("$work/swift")"
ok "Swift: import CSwiftmax, builds, runs"

# 4. A staged install with a library folder of its own, as a distribution makes it.
stage=$work/stage
run staged make -C "$root" install PREFIX=/usr LIBDIR=/usr/lib/one/two DESTDIR="$stage"
export PKG_CONFIG_SYSROOT_DIR="$stage" PKG_CONFIG_ALLOW_SYSTEM_CFLAGS=1
through_pkg_config staged-pkg "$stage/usr/lib/one/two"
unset PKG_CONFIG_SYSROOT_DIR PKG_CONFIG_ALLOW_SYSTEM_CFLAGS
through_cmake staged-cmake "$stage/usr/lib/one/two"
ok "DESTDIR with LIBDIR elsewhere: both routes"

# 5. A copy that was moved after the install.
mv "$prefix" "$work/moved"
through_pkg_config moved-pkg "$work/moved/lib" --define-prefix
through_cmake moved-cmake "$work/moved/lib"
ok "moved: both routes"

# 6. A broken install is said, not linked.
rm "$work/moved/include/swiftmax.h"
if cmake -S "$work/outside" -B "$work/broken" -Dswiftmax_DIR="$work/moved/lib/cmake/swiftmax" \
  >"$work/broken.log" 2>&1; then
  fail "CMake accepted an install without its header"
fi
grep -q "swiftmax.h is missing" "$work/broken.log" \
  || fail "no clear sentence: $(cat "$work/broken.log")"
ok "an install without its header is refused with a sentence"

echo "test_install: $passed checks passed"
