# Finds Chromium and installs its driver, pinned. Sourced, from the top of the checkout, after common.sh.

find_chromium() {
    local name
    for name in ${CHROMIUM_BIN:-} chromium chromium-browser google-chrome; do
        command -v "$name" && return
    done
    return 1
}

need node "install Node.js 20 or later"
need npm "it comes with Node.js; install it with your system's package manager"
if ! find_chromium >/dev/null; then
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } ||
        die "Chromium is missing: install it, or set CHROMIUM_BIN (on Debian, root gets it by itself)."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >&2
fi

driver="$PWD/target/tools/browser"
if ! cmp -s tests/browser/package-lock.json "$driver/package-lock.json" || [ ! -d "$driver/node_modules" ]; then
    mkdir -p "$driver"
    cp tests/browser/package.json tests/browser/package-lock.json "$driver"
    PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --prefix "$driver" --no-audit --no-fund --silent ||
        die "npm could not install playwright-core; see its message above."
fi

CHROMIUM_BIN=$(find_chromium)
PLAYWRIGHT_CORE="$driver/node_modules/playwright-core"
export CHROMIUM_BIN PLAYWRIGHT_CORE
