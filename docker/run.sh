#!/usr/bin/env bash
# Run a command in the image by podman or docker, on the working folder alone: read-only but for it and /tmp, without
# capabilities and network, as the folder's owner. Usage: docker/run.sh [IMAGE=localhost/scfs:latest] -- COMMAND ...
#   GPU=1              with this machine's GPUs
#   NETWORK=host       with the network (downloads, several processes)
#   MOUNTS="/datasets" further folders, read-only, under their own names
#   MEMORY, CPUS       limits, such as 16g and 8
#   ENGINE=docker      default: podman where it is installed
set -euo pipefail
image=localhost/scfs:latest
if [[ ${1:-} == IMAGE=* ]]; then
    image=${1#IMAGE=}
    shift
fi
[[ ${1:-} != -- ]] || shift
engine=${ENGINE:-$(command -v podman || command -v docker || true)}
[[ -n $engine ]] || { echo "docker/run.sh: neither podman nor docker is installed" >&2; exit 1; }

# Of the image's configuration: the same in every store, whatever the compression.
digest=$("$engine" image inspect --format '{{.Id}}' "$image") || { echo "docker/run.sh: $image: no such image; docker/build.sh builds it" >&2; exit 1; }
arguments=(run --rm --interactive --pull never --read-only --cap-drop all --security-opt no-new-privileges
    --network "${NETWORK:-none}" --tmpfs /tmp --pids-limit 4096 --shm-size "${SHM:-2g}"
    --volume "$PWD:/work" --workdir /work --env HOME=/tmp --env "SCFS_IMAGE_DIGEST=sha256:${digest#sha256:}")
# In a checkout its own code is run, as without the image; elsewhere the image's.
[[ ! -f scfs/__init__.py ]] || arguments+=(--env PYTHONPATH=/work)
for name in OMP_NUM_THREADS "${!SCFS_@}"; do
    [[ ! -v $name || $name == SCFS_IMAGE_DIGEST ]] || arguments+=(--env "$name")
done
for folder in ${MOUNTS:-}; do arguments+=(--volume "$folder:$folder:ro"); done
[[ -z ${MEMORY:-} ]] || arguments+=(--memory "$MEMORY")
[[ -z ${CPUS:-} ]] || arguments+=(--cpus "$CPUS")
if [[ $(basename "$engine") == podman ]]; then
    # crun refuses mixed cgroups; podman's own limits may be above what this machine grants.
    arguments=(--runtime runc "${arguments[@]}" --ulimit nofile=4096:4096 --ulimit nproc=4096:4096)
    [[ $EUID -eq 0 ]] || arguments+=(--userns keep-id)
    [[ -z ${GPU:-} ]] || arguments+=(--device nvidia.com/gpu=all)
elif [[ -n ${GPU:-} ]]; then
    arguments+=(--gpus all)
fi
exec "$engine" "${arguments[@]}" --user "$(stat --format %u:%g .)" "$image" "$@"
