#!/bin/sh
# Installs the Debian packages that make test-clients drives. What cannot be had is told, and its client is skipped, loudly.
for package in awscli python3-boto3 s3cmd rclone restic s3fs fuse nodejs npm; do
	case $package in nodejs) command -v node ;; npm) command -v npm ;; *) dpkg -s "$package" ;; esac >/dev/null 2>&1 && continue
	missing="$missing $package"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null && apt-get update -qq
for package in $missing; do
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >/dev/null 2>&1 || echo "NOTE: the package $package could not be installed"
done
