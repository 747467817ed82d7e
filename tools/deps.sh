#!/usr/bin/env bash
# Installs what the tests need beside Go: Debian packages if this is root on
# Debian, npm packages by lock file. What cannot be installed is said, and the
# tests that need it skip with a reason (or fail under COCOON_REQUIRE).
set -euo pipefail
cd "$(dirname "$0")/.."
need=()
command -v openssl >/dev/null || need+=(openssl)
command -v node >/dev/null || need+=(nodejs npm)
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need+=(postgresql)
command -v chromium >/dev/null || command -v google-chrome >/dev/null || [ -n "${COCOON_CHROMIUM:-}" ] || need+=(chromium fonts-dejavu-core fonts-noto-color-emoji)
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

# A real llama.cpp server for the conformance tests: Debian's newest package,
# unpacked with its own libraries into a cache folder beside the system, which
# stays as it is. A folder that is there is kept; remove it to fetch anew.
llama=${XDG_CACHE_HOME:-$HOME/.cache}/cocoon/llama.cpp
keys=/usr/share/keyrings/debian-archive-keyring.gpg
if [ -z "${COCOON_LLAMA_SERVER:-}" ] && [ ! -x "$llama/llama-server" ] && ! command -v llama-server >/dev/null; then
	if [ "$(uname -sm)" = "Linux x86_64" ] && command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null && [ -r "$keys" ]; then
		fetch_llama() (
			set -e
			tmp=$(mktemp -d)
			trap 'rm -rf "$tmp"' EXIT
			mkdir -p "$tmp"/lists/partial "$tmp"/archives/partial "$tmp"/root
			# The mirror that this machine uses for Debian itself.
			mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' | awk '$1 == "Debian" && $2 ~ /\/debian\/?$/ { print $2; exit }')
			[ -n "$mirror" ] || mirror=$(grep -rhoE 'https?://[^ ]*/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d | head -1)
			echo "deb [signed-by=$keys] $mirror sid main" >"$tmp/sources"
			apt() {
				timeout 120 apt-get -qq -o Dir::Etc::sourcelist="$tmp/sources" -o Dir::Etc::sourceparts=/nonexistent -o Dir::State::lists="$tmp/lists" \
					-o Dir::Cache="$tmp" -o Dir::State::status=/dev/null -o APT::Architecture=amd64 -o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=1 "$@"
			}
			apt update
			(cd "$tmp/archives" && apt download llama.cpp-tools libllama0 libggml0 libc6 libgcc-s1 libgomp1 libstdc++6 libssl3t64 libzstd1 zlib1g)
			for deb in "$tmp"/archives/*.deb; do dpkg-deb -x "$deb" "$tmp/root"; done
			cat >"$tmp/root/llama-server" <<-'EOF'
				#!/bin/sh
				# llama.cpp with the libraries it was built with.
				root=$(dirname "$(readlink -f "$0")") lib=$(dirname "$(readlink -f "$0")")/usr/lib/x86_64-linux-gnu
				cpu=x64
				grep -qm1 avx2 /proc/cpuinfo && cpu=haswell
				export GGML_BACKEND_PATH="$lib/ggml/backends0/libggml-cpu-$cpu.so"
				exec "$lib/ld-linux-x86-64.so.2" --library-path "$lib:$lib/llama" "$root/usr/bin/llama-server" "$@"
			EOF
			chmod +x "$tmp/root/llama-server"
			"$tmp/root/llama-server" --version >/dev/null 2>&1
			mkdir -p "$(dirname "$llama")"
			rm -rf "$llama"
			mv "$tmp/root" "$llama"
		)
		echo "fetching a llama.cpp server into $llama"
		(fetch_llama) >/dev/null 2>&1 || echo "no llama.cpp server: Debian's package could not be fetched or does not run here; tests with it are skipped"
	else
		echo "no llama.cpp server: set COCOON_LLAMA_SERVER to one; tests with it are skipped"
	fi
fi
