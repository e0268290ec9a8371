#!/bin/sh
# Builds the CUDA driver whose device is the CPU: build/libcuda.so.1. Needs g++ 12 or later.
# Every folder of ../kernels is compiled and registers its kernels; nothing lists them.
set -eu
cd "$(dirname "$0")"
command -v g++ >/dev/null || { echo "the CUDA emulator needs g++ (Debian: apt-get install g++)" >&2; exit 3; }
mkdir -p build

flags="-std=c++20 -O2 -g1 -fPIC -fvisibility=default -Wall -Wextra -Wno-unknown-pragmas -I. -I../kernels"
# In kernels: an access that is not aligned, or an index past the end of (shared) arrays, traps.
checks="-fsanitize=alignment,bounds,shift -fsanitize-undefined-trap-on-error"
headers="block.h device.h memory.h ../kernels/prelude.cuh ../kernels/constants.cuh build.sh"
changed=
objects=
for source in block.cpp memory.cpp driver.cpp faults/faults.cu ../kernels/*/*.cu; do
    object=build/$(basename "$source" | tr . _).o
    objects="$objects $object"
    if [ -z "$(find "$object" 2>/dev/null)" ] || [ -n "$(find "$source" $headers -newer "$object")" ]; then
        case $source in *.cu) checked=$checks ;; *) checked= ;; esac
        g++ $flags $checked -x c++ -c "$source" -o "$object.$$"
        mv "$object.$$" "$object"
        changed=yes
    fi
done
if [ -n "$changed" ] || [ ! -e build/libcuda.so.1 ]; then
    # Linked aside and moved: another process may have the old one open.
    g++ -shared -Wl,-soname,libcuda.so.1 $objects -o build/libcuda.so.1.$$
    mv build/libcuda.so.1.$$ build/libcuda.so.1
    ln -sf libcuda.so.1 build/libcuda.so
fi
