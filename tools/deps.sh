#!/usr/bin/env bash
# Installs what the tests need beside Go: Debian packages if this is root on
# Debian, npm packages by lock file. What cannot be installed is said, and the
# tests that need it skip with a reason (or fail under COCOON_REQUIRE).
set -euo pipefail
cd "$(dirname "$0")/.."
need=()
command -v openssl >/dev/null || need+=(openssl)
command -v node >/dev/null || need+=(nodejs npm)
if [ ${#need[@]} -gt 0 ]; then
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		echo "installing ${need[*]}"
		apt-get update -qq >/dev/null || true
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}" >/dev/null || echo "could not install ${need[*]}"
	else
		echo "not installed: ${need[*]} (needs root on Debian); tests that need them are skipped"
	fi
fi
for dir in tools/tolk e2e/js; do
	[ -f "$dir/package-lock.json" ] || continue
	if [ ! -d "$dir/node_modules" ] || [ "$dir/package-lock.json" -nt "$dir/node_modules/.done" ]; then
		echo "npm packages in $dir"
		(cd "$dir" && npm ci --silent --no-audit --no-fund && touch node_modules/.done) || echo "could not install npm packages in $dir"
	fi
done
