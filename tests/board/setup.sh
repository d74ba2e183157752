#!/usr/bin/env bash
# Makes build/board: an arm64 Python with rknn-toolkit-lite2 that runs here under qemu, and a librknnrt.so for it.
# Can be run again at any time; only what is missing or has changed is done. Needs Debian 12, and root only to
# install qemu-user-static and gcc-aarch64-linux-gnu where they are missing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
checkout=$(cd "$here/../.." && pwd)
out=$checkout/build/board
root=$out/root
python=${PYTHON:-$checkout/.venv/bin/python}
soc=rk3588

die() {
    echo "tests/board/setup.sh: $*" >&2
    exit 1
}

. /etc/os-release
[ "${VERSION_CODENAME:-}" = bookworm ] || die "needs Debian 12 (bookworm), whose arm64 Python 3.11 it unpacks"
"$python" -m pip --version >/dev/null 2>&1 || die "$python has no pip; make the .venv first, or set PYTHON"

mkdir -p "$out"
exec 9>"$out/lock"
flock 9

need_tools() {
    command -v qemu-aarch64-static >/dev/null && command -v aarch64-linux-gnu-gcc >/dev/null && return
    [ "$(id -u)" = 0 ] || die "install these as root: apt-get install qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross"
    echo "installing qemu-user-static and gcc-aarch64-linux-gnu"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross >"$out/apt.log" 2>&1 || die "see $out/apt.log"
}

# apt with lists of its own: the machine's own architectures and lists stay as they are, and no root is needed.
arm64_apt() {
    apt-get -qq -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User="$(id -un)" \
        -o Dir::State="$out/apt/state" -o Dir::State::status="$out/apt/status" -o Dir::Cache="$out/apt/cache" "$@"
}

unpack_debian() {
    echo "unpacking an arm64 Python 3.11"
    rm -rf "$root" "$out/debs" "$out/apt"
    mkdir -p "$root" "$out/debs" "$out/apt/state/lists/partial" "$out/apt/cache/archives/partial"
    : >"$out/apt/status"
    arm64_apt update
    (cd "$out/debs" && arm64_apt download python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libc6 \
        libgcc-s1 libstdc++6 zlib1g libexpat1 libssl3 libffi8 libbz2-1.0 liblzma5 libsqlite3-0 libuuid1)
    for deb in "$out"/debs/*.deb; do dpkg -x "$deb" "$root"; done
    mkdir -p "$root/proc/device-tree" "$root/dev/dri"
    printf 'radxa,rock-5b\0rockchip,%s\0' "$soc" >"$root/proc/device-tree/compatible"
    : >"$root/dev/dri/renderD129" # in a container the library looks for it, and only for its being there
    rm -rf "$out/debs" "$out/apt"
}

unpack_wheels() {
    echo "unpacking aarch64 wheels"
    rm -rf "$out/site"
    "$python" -m pip install --quiet --disable-pip-version-check --target "$out/site" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 \
        --implementation cp --python-version 3.11 --only-binary=:all: -r "$here/requirements.txt"
}

build_runtime() {
    aarch64-linux-gnu-gcc -std=gnu11 -O2 -Wall -Wextra -Werror -fPIC -shared -Wl,-soname,librknnrt.so \
        -o "$root/usr/lib/librknnrt.so" "$here"/runtime/*.c
}

# One line a step that was done, with what it was done from.
done_with() { grep -qxF "$1" "$out/steps" 2>/dev/null; }

need_tools
debian="debian $(sha256sum <"$here/setup.sh")"
wheels="wheels $(sha256sum <"$here/requirements.txt")"
rm -f "$out/ready"
done_with "$debian" || { : >"$out/steps"; unpack_debian; echo "$debian" >>"$out/steps"; }
done_with "$wheels" || { unpack_wheels; echo "$wheels" >>"$out/steps"; }
build_runtime
qemu-aarch64-static -L "$root" -E PYTHONPATH="$out/site" "$root/usr/bin/python3.11" -c 'import cv2, rknnlite.api' ||
    die "the emulated Python cannot import cv2 and rknnlite"
cat "$here/setup.sh" "$here/requirements.txt" "$here"/runtime/* | sha256sum | cut -c1-64 >"$out/ready"
echo "build/board is ready"
