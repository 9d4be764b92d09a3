#!/bin/sh
# Installs the Debian packages that the tests use, where they are missing: qemu for the other
# processors, the AArch64 linker with its C library's headers (which it only recommends), valgrind,
# CMake and pkg-config, Debian's own Python with NumPy 1.24. Quiet and quick when there is nothing
# to do. Exit status 1 with a sentence when it may not install.
set -eu

packages="qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross valgrind cmake pkg-config"
packages="$packages python3-dev python3-numpy python3-venv"

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "swiftmax: this is not a Debian system; the tests need what Debian calls: $packages" >&2
  exit 1
fi

# dpkg-query knows packages by name only; pkgconf provides pkg-config on newer systems.
missing=
for package in $packages; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] && continue
  [ "$package" = pkg-config ] && command -v pkg-config >/dev/null && continue
  missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
  as_root=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root=sudo
else
  echo "swiftmax: the tests need these packages; install them as root: apt-get install$missing" >&2
  exit 1
fi

echo "swiftmax: installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT INT TERM

# The lists are refreshed only if the first try fails: they are often there and always slow.
# Unquoted on purpose: lists of words.
# shellcheck disable=SC2086
install_missing() {
  $as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends $missing
}
if ! install_missing >"$log" 2>&1; then
  if ! { $as_root apt-get update -qq && install_missing; } >"$log" 2>&1; then
    cat "$log" >&2
    echo "swiftmax: apt-get could not install$missing (no network, or unknown names)" >&2
    exit 1
  fi
fi
