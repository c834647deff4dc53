#!/bin/sh
# Run tests in a guest that has the memory controller of cgroup v2, for machines that keep it on v1.
#
#     tests/faults/guest.sh tests/faults/test_memory.py -k giants
#
# The guest is user-mode Linux (Debian: apt-get install user-mode-linux); it sees the files of this machine.  Needs
# root.  Its kernel has no stall figures, and everything that enters it is several times slower.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
linux=$(command -v linux.uml || command -v linux) || { echo "user-mode Linux is not installed" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
printf '%s\n' "$@" > "$place/arguments"
cat > "$place/init" <<EOF
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up 2>/dev/null
cd "$project"
export PATH=/usr/local/bin:/usr/bin:/bin HOME=/tmp PREHEAT_FAULT_RUNS="${PREHEAT_FAULT_RUNS:-2}"
xargs -d '\n' -a "$place/arguments" .venv/bin/python -m pytest -q -p no:cacheprovider
echo \$? > "$place/ended"
echo o > /proc/sysrq-trigger
sleep 5
EOF
chmod +x "$place/init"
"$linux" mem="${PREHEAT_GUEST_MEMORY:-2560M}" rootfstype=hostfs root=none rootflags=/ rw init="$place/init" \
    con=null con0=fd:0,fd:1 quiet < /dev/null
exit "$(cat "$place/ended" 2>/dev/null || echo 1)"
