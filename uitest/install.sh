#!/bin/sh
# Installs what make test-ui needs: Debian's chromium, and axe-core (MPL-2.0, unmodified) from its package into bin/ui. What
# cannot be had is told; the tests then skip, loudly.
set -u
axe=4.14.1
if ! command -v chromium >/dev/null; then
	command -v apt-get >/dev/null && apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null 2>&1 || echo "NOTE: the package chromium could not be installed"
fi
mkdir -p bin/ui
if [ ! -s bin/ui/axe-$axe.js ]; then
	command -v npm >/dev/null || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends npm >/dev/null 2>&1
	(cd bin/ui && npm pack --silent axe-core@$axe >/dev/null && tar xzf axe-core-$axe.tgz package/axe.min.js && mv package/axe.min.js axe-$axe.js && rm -r package axe-core-$axe.tgz) ||
		echo "NOTE: axe-core could not be fetched"
fi
