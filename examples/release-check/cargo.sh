# Cargo with its progress told. Sourced by the scripts that build something, after say.sh.
# shellcheck shell=sh

# Each check builds in a folder of its own: none waits for another's lock, nor for an editor's. It is no more work than a
# common folder (81 s of processor time against 82: a check and a build share little), and keeps both cores busy.
build_in() {
    export CARGO_TARGET_DIR="target/release-check/$1" CARGO_INCREMENTAL=0
}

# watch_cargo FILE PACKAGES ARGUMENTS…: runs cargo, keeps what it says in FILE, answers with its exit code.
# PACKAGES is how many there may be to build: from 0 to 90 percent they are counted, then tests are.
watch_cargo() {
    kept=$1 packages=$2
    shift 2
    { cargo "$@" 2>&1 < /dev/null; echo "cargo ended with $?"; } | (
        built=0 passed=0 percent=0 code=1
        while IFS= read -r line; do
            case $line in
                'cargo ended with '*)
                    code=${line##* }
                    continue ;;
                ' '*'Compiling '* | ' '*'Checking '*)
                    built=$((built + 1))
                    percent=$((built * 90 / (packages + 1)))
                    [ "$percent" -le 90 ] || percent=90
                    progress "$percent" "building ${line#*ing }" ;;
                'test '*' ... ok')
                    passed=$((passed + 1))
                    [ $((passed % 25)) -ne 0 ] || progress 95 "$passed tests passed" ;;
            esac
            printf '%s\n' "$line" >&3
        done 3> "$kept"
        exit "$code"
    )
}

# Prints how many packages a build may have to make. Options as of `cargo tree`.
packages() {
    cargo tree --prefix none --edges normal,build,dev "$@" 2> /dev/null | sed 's/ (\*)$//' | sort -u | wc -l
}

# Skips the check if this machine's Rust comes without a component.
needs_component() {
    cargo "$1" --version > /dev/null 2>&1 || skip "cargo $1 is not installed (rustup component add $2)"
}
