#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
#
# The names in the documents are those in the sources: files, classes, members, functions.
# What is in backticks counts, and the left column of indented listings of files.

. "$(dirname "$0")/lib.sh"
cd "$UPLOAD_SRCDIR" || exit 99

# DOCUMENT: what stands in backticks, one a line, without what is called with or shown.
names() { grep -v '^    ' "$1" | tr '\n' ' ' | grep -oE '`[^`]+`' | tr -d '`' | sed 's/()$//' | sort -u; }

# A file of that name, or of that pattern, is in the repository.
is_file() { compgen -G "$1" >/dev/null || compgen -G "plugin/$1" >/dev/null || compgen -G "plugin/*/$1" >/dev/null || compgen -G "upload/$1" >/dev/null || compgen -G "tests/$1" >/dev/null; }

# CLASS MEMBER: one source file has both words, and the class is declared there or used.
has_member() {
  grep -rlwE "(class|struct|enum class|namespace|enum) ([A-Z_]+\(\"[a-z]+\"\) )?$1" plugin upload tests --include='*.h' --include='*.cpp' |
    xargs -r grep -lwF -- "$2" | grep -q .
}

has_word() { grep -rqwF --include='*.h' --include='*.cpp' -- "$1" plugin upload tests; }

# DOCUMENT: its names that are nowhere.
unknown() {
  names "$1" | while read -r name; do
    case $name in
      *[' =|"$<>']*) ;;
      *.cpp | *.h | *.sh | *.pod | *.md | *.\* | */*.*)
        case $name in /* | *DIR* | *NAME* | *HASH* | *FILE*) ;; *) is_file "$name" || echo "$1: $name" ;; esac ;;
      *::*)
        has_member "$(sed -E 's/^(.*::)?([A-Za-z_]+)::[^:]*$/\2/' <<<"$name")" "${name##*::}" || echo "$1: $name" ;;
      [A-Z]*[a-z]*) [[ $name =~ ^[A-Za-z]+$ ]] && { has_word "$name" || echo "$1: $name"; } ;;
      [a-z]*_) has_word "$name" || echo "$1: $name" ;;
    esac
  done
  # Listings: "    file.cpp   Class::member, Class::other  what it does".
  grep -E '^    [a-z_]+\.(cpp|h|\*) |^ {20,}[A-Z][A-Za-z]+::' "$1" | grep -oE '\b[A-Z][A-Za-z]+::[a-z_]+' | sort -u |
    while read -r name; do has_member "${name%%::*}" "${name##*::}" || echo "$1: $name"; done
  grep -oE '^ {4,6}[a-z_]+\.(cpp|h|\*)' "$1" | while read -r name; do
    compgen -G "plugin/$name" >/dev/null || compgen -G "plugin/*/$name" >/dev/null || compgen -G "upload/$name" >/dev/null || echo "$1: $name"
  done
}

begin 'the names in the documents exist'
for document in README.md CONTRIBUTING.md tests/README.md docs/*.md; do unknown "$document"; done >"$TMP/unknown"
[ ! -s "$TMP/unknown" ] || { fail 'these do not'; show "$TMP/unknown"; }

begin 'the check sees names that do not exist'
cat >"$TMP/wrong.md" <<'END'
A `Volume::dirty_` in `plugin/nowhere.cpp`, with a `NeverHeardOf`.

    nowhere.cpp    Writer::nothing_of_the_kind
END
[ "$(unknown "$TMP/wrong.md" | wc -l)" = 5 ] || { fail 'not these'; unknown "$TMP/wrong.md" >"$TMP/found"; show "$TMP/found"; }

finish
