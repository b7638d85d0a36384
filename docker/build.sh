#!/usr/bin/env bash
# Build the image with buildah. Usage: docker/build.sh [TAG] [further arguments of buildah build]
#   BASE_IMAGE=docker.io/library/debian:bookworm-slim@sha256:...   the base; docker/base.sh makes one without a registry
#   REQUIREMENTS=envs/slim.txt                                     without torch: plans, data and reports only
# pip's settings on this machine (index, certificates) are lent to the build and do not stay in the image.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:-localhost/scfs:latest}
shift || true

lent=$(mktemp -d)
trap 'rm -rf "$lent"' EXIT
mounts=(--volume "$lent:/mnt:ro") # a folder that every image has, and that stays empty
lend() { # a folder of this machine; its path in the build is left in REPLY
    REPLY=/mnt/$(basename "$lent")-$RANDOM
    mkdir "$lent/$(basename "$REPLY")"
    mounts+=(--volume "$1:$REPLY:ro")
}
cp "${PIP_CERT:-${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}}" "$lent/certificates.crt"
{
    printf '[global]\ncert = /mnt/certificates.crt\ndisable-pip-version-check = true\ntimeout = 180\n'
    for key in index-url extra-index-url find-links trusted-host; do
        values=
        for value in $(python3 -m pip config get "global.$key" 2> /dev/null || true); do
            case $value in
                file://*/simple)
                    folder=${value#file://}
                    [[ -d $folder ]] || continue
                    lend "${folder%/simple}"
                    value=file://$REPLY/simple
                    ;;
                /*)
                    [[ -d $value ]] || continue
                    lend "$value"
                    value=$REPLY
                    ;;
            esac
            values+=" $value"
        done
        [[ -z $values ]] || echo "$key =$values"
    done
} > "$lent/pip.conf"
chmod -R a+rX "$lent"

base=()
[[ -z ${BASE_IMAGE:-} ]] || base=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
# One time stamp for every file, so that two builds of one revision are one image; chroot: in CI there is no user namespace.
exec_build=(buildah build --isolation chroot --network host --format oci --layers --timestamp 1767225600)
"${exec_build[@]}" "${base[@]}" "${mounts[@]}" --build-arg PIP_CONFIG_FILE=/mnt/pip.conf \
    --build-arg "REQUIREMENTS=${REQUIREMENTS:-envs/runtime.txt}" \
    --build-arg "REVISION=$(git describe --always --dirty --abbrev=40)" \
    --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
    --build-arg "CREATED=$(git log -1 --format=%cI)" \
    --file docker/Dockerfile --tag "$tag" "$@" .
