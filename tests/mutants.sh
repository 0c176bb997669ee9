#!/bin/sh
# Takes one defence out at a time and demands that the check which guards it fails: `tests/mutants.sh [PART OF A NAME]...`.
#
# Each `tests/mutants/NAME.patch` says in its head what it breaks, and after `# caught-by: ` the command that must fail. A
# mutant that does not apply or compile any more counts as a survivor: mend the patch. Works in a scratch worktree, so that
# the sources at hand stay as they are; builds go to `target/mutants`, where each mutant finds those of the one before.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'git -C "$root" worktree remove --force "$scratch/tree" >/dev/null 2>&1; rm -rf "$scratch"' EXIT
trap 'exit 1' HUP INT TERM
git -C "$root" worktree add --quiet --detach "$scratch/tree" HEAD || exit 1
export CARGO_TARGET_DIR="${MUTANTS_TARGET_DIR:-$root/target/mutants}"
if [ "$(realpath -m "$CARGO_TARGET_DIR")" = "$(realpath -m "$root/target")" ]; then
    # Cargo knows a package by its place in the workspace, and what it built by the time of the sources.
    echo "mutants.sh: not into $CARGO_TARGET_DIR: the last mutant would be taken there for what the sources at hand give" >&2
    exit 2
fi
cd "$scratch/tree" || exit 1

# Whether a name holds one of the parts asked for, or none was asked for.
wanted() {
    name=$1
    shift
    [ $# -eq 0 ] && return 0
    for part in "$@"; do
        case $name in *"$part"*) return 0 ;; esac
    done
    return 1
}

count=0
survivors=0
for patch in "$root"/tests/mutants/*.patch; do
    name=$(basename "$patch" .patch)
    wanted "$name" "$@" || continue
    check=$(sed -n 's/^# caught-by: //p' "$patch")
    count=$((count + 1))
    git checkout --quiet --force HEAD -- .
    verdict=caught
    if [ -z "$check" ]; then
        verdict="SURVIVES: its head names no check"
    elif ! git apply "$patch" 2>"$scratch/log"; then
        verdict="SURVIVES: the patch does not apply"
    elif timeout "${MUTANTS_SECONDS:-600}" sh -c "$check" >"$scratch/log" 2>&1; then
        verdict="SURVIVES"
    elif [ $? -eq 124 ]; then
        verdict="caught (did not end)"
    elif grep -q "could not compile" "$scratch/log"; then
        verdict="SURVIVES: it does not compile"
    fi
    case $verdict in
        SURVIVES*)
            survivors=$((survivors + 1))
            tail -n 5 "$scratch/log" >&2
            ;;
    esac
    printf '%-44s %s\n' "$name" "$verdict"
done
echo "$count mutants, $survivors survive"
[ "$count" -gt 0 ] && [ "$survivors" -eq 0 ]
