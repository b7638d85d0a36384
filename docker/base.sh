#!/usr/bin/env bash
# A stand-in for docker.io/library/debian:bookworm-slim, from the Debian mirror that apt uses on this machine: for machines
# that reach no image registry. Usage: docker/base.sh [TAG]
set -euo pipefail
tag=${1:-localhost/debian:bookworm-slim}
export SOURCE_DATE_EPOCH=1767225600
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sources=/etc/apt/sources.list.d/debian.sources
[[ -s $sources ]] || sources=/etc/apt/sources.list
# The same files are left out as in the official slim images, licences apart.
mmdebstrap --quiet --mode=root --variant=minbase --format=tar --include=ca-certificates --skip=output/dev \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --aptopt='Apt::Install-Recommends "false"' bookworm "$work/root.tar" "$sources"
container=$(buildah from scratch)
buildah add --quiet "$container" "$work/root.tar" / > /dev/null
buildah config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --timestamp "$SOURCE_DATE_EPOCH" --rm "$container" "$tag" > /dev/null
echo "$tag"
