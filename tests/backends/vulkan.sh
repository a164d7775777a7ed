#!/usr/bin/env bash
# Prepares a Vulkan build, also without a GPU (Mesa's lavapipe), and prints its CMake options. Says
# on stderr what is missing, and exits with 1 then. If it makes build/keep_buffers.so, tests must run
# with it (LD_PRELOAD).
set -euo pipefail
cd "$(dirname "$0")/../.."

missing=()
need() { # PACKAGE FILE...: any of the files
    local package=$1 file
    shift
    for file in "$@"; do
        if [ -e "$file" ]; then return; fi
    done
    missing+=("$package")
}
need glslc "$(command -v glslc || echo nowhere)"
need libvulkan-dev /usr/include/vulkan/vulkan.h
need spirv-headers /usr/include/spirv/unified1/spirv.hpp
need mesa-vulkan-drivers /usr/share/vulkan/icd.d/*.json /etc/vulkan/icd.d/*.json
if [ ${#missing[@]} -gt 0 ]; then
    echo "Vulkan: missing ${missing[*]};" \
        "on Debian: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi

# Only Debian 12's lavapipe (Mesa 22.3.6) needs its buffers kept (docs/backends.md).
keep=$PWD/build/keep_buffers.so
if [[ $(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null) == 22.* ]] &&
    ! compgen -G '/dev/dri/render*' >/dev/null; then
    mkdir -p build
    "${CC:-cc}" -shared -fPIC -O1 -o "$keep" tests/backends/keep_buffers.c
else
    rm -f "$keep"
fi

if grep -qs VK_EXT_layer_settings /usr/include/vulkan/vulkan_core.h; then
    echo "-DGGML_VULKAN=ON"
    exit
fi
# Debian 12's headers are too old for ggml. Takes only the headers of Debian 13, from the mirror that
# apt-get uses here.
headers=$PWD/build/vulkan-headers
if ! grep -qs VK_EXT_layer_settings "$headers/usr/include/vulkan/vulkan_core.h"; then
    site=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 'Label: Debian' 2>/dev/null |
        sort -u | head -1)
    if [ -z "$site" ]; then
        echo "Vulkan: libvulkan-dev is too old here, and newer headers are only known of Debian" >&2
        exit 1
    fi
    mkdir -p "$headers/lists/partial" "$headers/cache/archives/partial"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] $site trixie main" >"$headers/suite.list"
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$headers/suite.list" -o "Dir::Etc::sourceparts=-"
        -o "Dir::State::lists=$headers/lists" -o "Dir::Cache=$headers/cache"
        -o "APT::Sandbox::User=$(id -un)")
    (
        cd "$headers"
        "${apt[@]}" update
        "${apt[@]}" download libvulkan-dev/trixie
        dpkg -x libvulkan-dev_*.deb .
    ) >&2
fi
echo "-DGGML_VULKAN=ON -DVulkan_INCLUDE_DIR=$headers/usr/include"
