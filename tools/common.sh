# What the tools share. Sourced, from the top of the checkout.

die() {
    echo "natsway: $*" >&2
    exit 1
}

# need COMMAND HOW: one sentence instead of a stack of errors.
need() {
    command -v "$1" >/dev/null || die "$1 is missing: $2."
}

need_cargo() {
    need cargo "install the Rust toolchain from https://rustup.rs"
}

# need_pip: a Python that can install a wheel into a folder of ours.
need_pip() {
    need python3 "install Python 3.9 or later with your system's package manager"
    python3 -m pip --version >/dev/null 2>&1 ||
        die "Python's pip is missing: install it (Debian: apt-get install python3-pip)."
}

# pip_install FOLDER REQUIREMENTS: whole or not at all, so that an interrupted run is repeated.
pip_install() {
    local folder=$1 requirements=$2 unfinished="$1.$$"
    need_pip
    rm -rf "$unfinished"
    mkdir -p "$(dirname "$folder")"
    PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-input \
        --require-hashes --no-deps --only-binary :all: \
        --target "$unfinished" --requirement "$requirements" >&2 ||
        die "pip could not install $requirements; see its message above."
    rm -rf "$folder"
    mv "$unfinished" "$folder"
}
