#!/bin/sh
# Hook of mmdebstrap, with the new root as $1: what does not come from Debian is put into its /opt/clients.
set -eu
from=$(dirname "$0")
mkdir "$1/opt/clients"
cp "$from/package.json" "$from/package-lock.json" "$from/pom.xml" "$1/opt/clients/"
# a machine behind a proxy with an authority of its own downloads with it
if [ -d /usr/local/share/ca-certificates ]; then
  cp -r /usr/local/share/ca-certificates/. "$1/usr/local/share/ca-certificates/"
  chroot "$1" update-ca-certificates >/dev/null
fi
chroot "$1" sh -eu <<'END'
cd /opt/clients
export HOME=/tmp/home NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
# registries have bad moments
twice() { "$@" || "$@"; }
twice corepack npm@10.9.4 ci --ignore-scripts --no-audit --no-update-notifier
twice mvn -q -B -Dmaven.repo.local=/tmp/home/maven dependency:copy-dependencies -DoutputDirectory=jars
rm -rf /tmp/home /var/cache/apt/archives/*.deb
END
