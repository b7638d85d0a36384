#!/usr/bin/env bash
# Apptainer's image of the same image. Usage: docker/convert.sh [IMAGE] [SIF=docker/scfs.sif]
#   SANDBOX=1   a folder instead of a file: nothing is compressed, which takes seconds instead of minutes
set -euo pipefail
image=${1:-localhost/scfs:latest}
sif=${2:-$(dirname "$0")/scfs.sif}
archive=$(mktemp -d "${TMPDIR:-/var/tmp}/scfs-XXXXXX")
trap 'rm -rf "$archive"' EXIT
digest=$(buildah inspect --type image --format '{{.FromImageID}}' "$image")
buildah push --quiet --disable-compression "$image" "oci-archive:$archive/oci.tar"
kind=()
[[ -z ${SANDBOX:-} ]] || kind=(--sandbox)
# --notest: its test asks for every capability there is, which a container's root may lack; the next line needs none.
apptainer build --notest --force "${kind[@]}" --build-arg "ARCHIVE=$archive/oci.tar" --build-arg "DIGEST=sha256:${digest#sha256:}" \
    "$sif" "$(dirname "$0")/scfs.def"
apptainer test "$sif"
