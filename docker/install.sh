#!/usr/bin/env bash
# What builds and runs the image on Debian 12 (root): buildah and podman, and Apptainer, which Debian 12 does not have: the
# package of Debian sid, unpacked under /opt/apptainer with the newer C library that it needs. Nothing else is touched.
set -euo pipefail
[[ $EUID -eq 0 ]] || { echo "docker/install.sh: needs root" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
install=(apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends)
apt-get -o DPkg::Lock::Timeout=300 update -qq
"${install[@]}" buildah podman runc netavark uidmap fuse-overlayfs mmdebstrap > /dev/null
command -v apptainer > /dev/null && exit 0

"${install[@]}" squashfs-tools fakeroot libseccomp2 libsqlite3-0 patchelf ca-certificates > /dev/null
prefix=/opt/apptainer
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# shellcheck disable=SC2016 # apt's own variable
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
key=/usr/share/keyrings/debian-archive-keyring.gpg
printf 'deb [signed-by=%s] %s %s main\n' "$key" "$mirror" trixie "$key" "$mirror" sid > "$work/sources.list"
mkdir -p "$work/lists/partial" "$work/cache/archives/partial"
private=(-o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$work/lists"
    -o Dir::Cache="$work/cache" -o APT::Sandbox::User=root)
apt-get "${private[@]}" -qq update
(cd "$work" && apt-get "${private[@]}" -qq download apptainer/sid libc6/trixie > /dev/null)
dpkg-deb -x "$work"/apptainer_*.deb "$work/apptainer"
dpkg-deb -x "$work"/libc6_*.deb "$work/libc"

# Apptainer takes the folder above its program for its prefix, its starter the folder lib.
libraries=$prefix/lib/x86_64-linux-gnu
mkdir -p "$prefix"/{bin,etc,glibc} "$libraries" "$prefix"/{lib/,}var/lib/apptainer/mnt/session
ln -sfn ../etc "$prefix/lib/etc"
cp -a "$work/apptainer/etc/apptainer" "$prefix/etc/"
cp -a "$work/apptainer/usr/lib/x86_64-linux-gnu/apptainer" "$libraries/"
install -m 755 "$work/apptainer/usr/bin/apptainer" "$prefix/bin/apptainer"
cp -a "$work"/libc/usr/lib/x86_64-linux-gnu/{ld-linux-x86-64.so.2,lib{c,m,resolv,nss_files,nss_dns}.so.*} "$prefix/glibc/"
for program in "$prefix/bin/apptainer" "$libraries/apptainer/bin/starter"; do
    patchelf --set-interpreter "$prefix/glibc/ld-linux-x86-64.so.2" --force-rpath \
        --set-rpath "$prefix/glibc:/usr/lib/x86_64-linux-gnu" "$program"
done

# Apptainer gives a container of root's every capability there is, and fails where this root lacks one: give it what there is.
python3 - "$prefix/etc/apptainer" << 'PYTHON'
import json
import re
import sys
from pathlib import Path

NAMES = """chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable net_bind_service
net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio sys_chroot sys_ptrace sys_pacct sys_admin sys_boot
sys_nice sys_resource sys_time sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog
wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore""".split()
settings = Path(sys.argv[1])
permitted = int(re.search(r"CapPrm:\s*(\w+)", Path("/proc/self/status").read_text())[1], 16)
held = [f"CAP_{name.upper()}" for bit, name in enumerate(NAMES) if permitted >> bit & 1]
if len(held) < len(NAMES):
    (settings / "capability.json").write_text(json.dumps({"users": {"root": held}}))
    file = settings / "apptainer.conf"
    file.write_text(re.sub(r"(?m)^root default capabilities = .*", "root default capabilities = file", file.read_text()))
PYTHON
ln -sf "$prefix/bin/apptainer" /usr/local/bin/apptainer
apptainer --version
