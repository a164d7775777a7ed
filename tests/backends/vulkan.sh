#!/usr/bin/env bash
# What a Vulkan build needs, on a machine without a GPU too (Mesa's lavapipe). Prints the CMake options of such a build;
# what is missing is named on stderr, and the exit code is 1 then.
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
    echo "Vulkan: missing ${missing[*]}; on Debian: apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
if grep -qs VK_EXT_layer_settings /usr/include/vulkan/vulkan_core.h; then
    echo "-DGGML_VULKAN=ON"
    exit
fi

# Debian 12's headers are too old for ggml: those alone of Debian 13, unpacked into the build tree.
headers=$PWD/build/vulkan-headers
if ! grep -qs VK_EXT_layer_settings "$headers/usr/include/vulkan/vulkan_core.h"; then
    if ! command -v apt-get >/dev/null; then
        echo "Vulkan: headers with VK_EXT_layer_settings (1.3.272 or later) are missing" >&2
        exit 1
    fi
    mkdir -p "$headers/lists/partial" "$headers/cache/archives/partial"
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] http://deb.debian.org/debian trixie main" >"$headers/trixie.list"
    apt=(apt-get -qq -o "Dir::Etc::sourcelist=$headers/trixie.list" -o "Dir::Etc::sourceparts=-"
        -o "Dir::State::lists=$headers/lists" -o "Dir::Cache=$headers/cache" -o "APT::Sandbox::User=$(id -un)")
    (
        cd "$headers"
        "${apt[@]}" update
        "${apt[@]}" download libvulkan-dev
        dpkg -x libvulkan-dev_*.deb .
    ) >&2
fi
echo "-DGGML_VULKAN=ON -DVulkan_INCLUDE_DIR=$headers/usr/include"
