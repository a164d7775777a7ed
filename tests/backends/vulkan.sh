#!/usr/bin/env bash
# What a Vulkan build needs, on a machine without a GPU too (Mesa's lavapipe). Prints the CMake options of such a build;
# what is missing is named on stderr, and the exit code is 1 then. Where build/vulkan-driver/lvp.json is there afterwards,
# it is the driver to run with (VK_DRIVER_FILES).
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

unpack() { # SUITE PACKAGE FOLDER: a Debian package of another release, unpacked into the build tree
    local site # the mirror that this machine uses
    site=$(apt-get indextargets --format '$(SITE)' 'Origin: Debian' 'Label: Debian' 2>/dev/null | sort -u | head -1)
    if [ -z "$site" ]; then
        echo "Vulkan: $2 is too old here, and newer ones are only known of Debian" >&2
        exit 1
    fi
    mkdir -p "$3/lists/partial" "$3/cache/archives/partial"
    local keys=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$keys] $site $1 main" >"$3/suite.list"
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$3/suite.list" -o "Dir::Etc::sourceparts=-"
        -o "Dir::State::lists=$3/lists" -o "Dir::Cache=$3/cache" -o "APT::Sandbox::User=$(id -un)")
    (
        cd "$3"
        "${apt[@]}" update
        "${apt[@]}" download "$2/$1"
        dpkg -x "$2"_*.deb .
    ) >&2
}

# Debian 12's lavapipe (Mesa 22.3.6) reads buffers that are gone (docs/backends.md); nothing else of Mesa is concerned.
driver=$PWD/build/vulkan-driver
if [[ $(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null) == 22.* ]] && ! compgen -G '/dev/dri/render*' >/dev/null; then
    library=$driver/usr/lib/$(uname -m)-linux-gnu/libvulkan_lvp.so
    [ -e "$library" ] || unpack bookworm-backports mesa-vulkan-drivers "$driver"
    echo "{\"file_format_version\": \"1.0.0\", \"ICD\": {\"library_path\": \"$library\", \"api_version\": \"1.4.305\"}}" \
        >"$driver/lvp.json"
else
    rm -f "$driver/lvp.json"
fi

if grep -qs VK_EXT_layer_settings /usr/include/vulkan/vulkan_core.h; then
    echo "-DGGML_VULKAN=ON"
    exit
fi
# Debian 12's headers are too old for ggml: those alone of Debian 13.
headers=$PWD/build/vulkan-headers
if ! grep -qs VK_EXT_layer_settings "$headers/usr/include/vulkan/vulkan_core.h"; then
    unpack trixie libvulkan-dev "$headers"
fi
echo "-DGGML_VULKAN=ON -DVulkan_INCLUDE_DIR=$headers/usr/include"
