#!/bin/sh
# Install the Debian packages that the tests run against: exactly what is missing, and nothing is started.
# Root on Debian or Ubuntu gets them installed; anybody else gets the one line to run, and exit status 1.
set -eu

# command:package:what the tests do with it
TOOLS='
restic:restic:reads what keepwatch wrote, and writes what keepwatch must read
promtool:prometheus:checks /metrics and runs the alert rules against their cases
systemd-analyze:systemd:checks the service unit
chromium:chromium:looks at the page as a reader would
btrfs:btrfs-progs:makes a file system whose snapshots the hooks take, where the kernel has it and root asks
'

packages='' reasons=''
while IFS=: read -r command package reason; do
    [ -n "$command" ] || continue
    command -v "$command" >/dev/null 2>&1 && continue
    packages="$packages $package"
    reasons="$reasons
  $command: $reason"
done <<EOT
$TOOLS
EOT

[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "the tests need programs that are missing here, and this is not Debian or Ubuntu:$reasons" >&2
    exit 1
fi
if [ "$(id -u)" != 0 ]; then
    echo "the tests need programs that are missing here:$reasons" >&2
    echo "run: sudo apt-get install --no-install-recommends$packages" >&2
    exit 1
fi

echo "installing for the tests:$packages"
export DEBIAN_FRONTEND=noninteractive

# The prometheus package starts a server when it is installed. Debian's switch against that is a policy file.
policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT TERM
fi
apt-get update -qq </dev/null
# shellcheck disable=SC2086  # a list of package names
apt-get install -qq -y --no-install-recommends $packages </dev/null >/dev/null
case $packages in
    *prometheus*) # nor shall it start at the next boot
        if command -v systemctl >/dev/null 2>&1; then systemctl disable --quiet prometheus.service; fi ;;
esac
