#!/bin/sh
# Install the Debian packages that the tests run against: exactly what is missing, and nothing is started.
# Root on Debian or Ubuntu gets them installed; anybody else gets the one line to run, and exit status 1.
set -eu

# command:package:what the tests do with it
TOOLS='
restic:restic:reads what keepwatch wrote, and writes what keepwatch must read
promtool:prometheus:checks /metrics and runs the alert rules against their cases
prometheus-alertmanager:prometheus-alertmanager:is told of alerts, and tells a webhook
prometheus-node-exporter:prometheus-node-exporter:exports this host beside keepwatch, to be compared with
systemd-analyze:systemd:checks the service unit
chromium:chromium:looks at the page as a reader would
btrfs:btrfs-progs:makes a file system whose snapshots the hooks take, where the kernel has it and root asks
initdb:postgresql:a database to watch and to back up
pgbackrest:pgbackrest:what base backups are measured against
mariadbd:mariadb-server:another one
mariadb-backup:mariadb-backup:copies its data directory while it runs
redis-server:redis-server:a store of keys to watch and to back up
memcached:memcached:a cache to watch
rabbitmq-server:rabbitmq-server:a broker to watch
nats-server:nats-server:another one
mosquitto:mosquitto:a broker of MQTT to watch
unbound:unbound:answers DNS
sshd:openssh-server:shows a banner and a host key
ping:iputils-ping:sends echoes where the kernel lets us not
systemd-journal-remote:systemd-journal-remote:writes a journal to read
snmpd:snmpd:a device to ask over SNMP
dummy-ups:nut-server:an uninterruptible power supply that there is not
'

# servers lie where only root's PATH looks, or not even that
for folder in ${SERVER_FOLDERS-/usr/sbin /usr/lib/postgresql/*/bin /lib/nut /lib/systemd}; do PATH=$PATH:$folder; done

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

# Packages of servers start them when they are installed. Debian's switch against that is a policy file.
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
command -v systemctl >/dev/null 2>&1 || exit 0
for package in $packages; do # nor shall they start at the next boot
    case $package in
        mariadb-server) unit=mariadb ;;
        openssh-server) unit=ssh ;;
        snmpd | nut-server) unit=$package ;;
        prometheus | prometheus-alertmanager | prometheus-node-exporter | postgresql | redis-server | memcached | rabbitmq-server | nats-server | mosquitto | unbound) unit=$package ;;
        *) continue ;;
    esac
    systemctl disable --quiet "$unit.service"
done
