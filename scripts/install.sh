#!/usr/bin/env bash
# Installs Debian packages that tests run on.
#
#   scripts/install.sh PACKAGE ..
set -euo pipefail
as_root=""
[ "$(id -u)" = 0 ] || as_root="sudo"
echo "installing $*, which the tests run on" >&2
$as_root apt-get update -qq
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -o DPkg::Lock::Timeout=600 -y -qq --no-install-recommends "$@"
