#!/bin/sh
# How did it come about? Commits, authors, the last tag; as far back as this clone goes.
. examples/release-check/say.sh

has git || skip 'git is not installed'
# A checkout that belongs to another user, as in containers, is no reason not to read it.
git() { command git -c safe.directory='*' "$@"; }
git rev-parse --git-dir > /dev/null 2>&1 || skip 'this folder is not a git repository'
git rev-parse --verify --quiet HEAD > /dev/null || skip 'the repository has no commit yet'

progress 20 'counting commits'
commits=$(git rev-list --count HEAD)
authors=$(git log --format=%ae HEAD | sort -u | wc -l)
last=$(git log -1 --format=%cs HEAD)
commit=$(git rev-parse --short HEAD)
changed=$(git status --porcelain | wc -l)
tag=$(git describe --tags --abbrev=0 2> /dev/null) || tag=''
shallow=false least=''
if [ "$(git rev-parse --is-shallow-repository)" = true ]; then shallow=true least='at least '; fi

words="$least$(count "$commits" commit) by $least$(count "$authors" author), the last on $last"
if [ -n "$tag" ]; then
    words="$words; $(git rev-list --count "$tag..HEAD") since tag $tag"
elif [ "$shallow" = true ]; then
    words="$words; tags lie beyond this shallow clone"
else
    words="$words; no tag yet"
fi
[ "$((changed))" -eq 0 ] || words="$words; $(count "$changed" file) not committed"
result "$words" "\"commit\":$(json "$commit"),\"commits\":$commits,\"authors\":$((authors)),\"last\":$(json "$last"),\
\"tag\":$(json "$tag"),\"shallow\":$shallow,\"not_committed\":$((changed))"
