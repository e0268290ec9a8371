#!/bin/sh
# Makes an image of Selvedge: build.sh cpu|gpu [NAME]. Needs Rust, and buildah, podman or docker.
set -eu

kind=${1:-cpu}
name=${2:-selvedge:latest}
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"

case $kind in
cpu) file=Containerfile options=--static ;;
gpu) file=Containerfile.gpu options=--cuda ;;
*)
    echo "usage: $0 cpu|gpu [NAME]" >&2
    exit 2
    ;;
esac

tool=
for candidate in buildah podman docker; do
    if command -v "$candidate" >/dev/null; then
        tool=$candidate
        break
    fi
done
if [ -z "$tool" ]; then
    echo "error: none of buildah, podman and docker is installed (Debian: apt-get install buildah)" >&2
    exit 1
fi

# The last line names the folder with the binary and its papers.
told=$(cargo xtask release $options)
folder=$(printf '%s\n' "$told" | tail -n 1)
"$tool" build --file "packaging/oci/$file" --tag "$name" "$folder"
echo "made $name with $tool"
