#!/bin/bash
# test_rooms.sh - rooms depend on each other in one direction only: files of src/<room> and
# include/cohort/<room>.h include headers of <room> and of rooms before it, and no other room's
# private headers. Prints each include that breaks the rule.
set -u
cd "$(dirname "$0")/.." || exit 1
order=(base config data device comm archive net train extract prune compress store plot)
declare -A place room_of
for i in "${!order[@]}"; do place[${order[$i]}]=$i; done
room_of[rebuild]=extract room_of[sweep]=config room_of[random]=base # public headers that are not named after their room

failed=0
complain() {
  echo "not ok $1"
  failed=1
}

# room of the public header cohort/NAME.h
header_room() { echo "${room_of[$1]:-$1}"; }

# check ROOM FILE: every include of FILE, which belongs to ROOM
check() {
  local room=$1 file=$2 header other
  while read -r header; do
    case $header in
    cohort/*) other=$(basename "$header" .h) && other=$(header_room "$other") ;;
    */*) other=${header%%/*}
      [ "$other" = "$room" ] || complain "$file: \"$header\" is private to $other" ;;
    *) other=$room ;;
    esac
    if [ -z "${place[$other]:-}" ]; then
      complain "$file: \"$header\" belongs to no room that tests/test_rooms.sh knows"
    elif [ "${place[$other]}" -gt "${place[$room]}" ]; then
      complain "$file: \"$header\" belongs to $other, which comes after $room"
    fi
  done < <(sed -n 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*"\([^"]*\)".*/\1/p' "$file")
}

for folder in src/*/; do
  room=$(basename "$folder")
  compgen -G "$folder*.[ch]*" >/dev/null || continue
  if [ -z "${place[$room]:-}" ]; then
    complain "$folder: a room that tests/test_rooms.sh does not know"
    continue
  fi
  for file in "$folder"*.[ch]*; do check "$room" "$file"; done
done
for file in include/cohort/*.h; do
  room=$(header_room "$(basename "$file" .h)")
  if [ -z "${place[$room]:-}" ]; then
    complain "$file: a room that tests/test_rooms.sh does not know"
  else
    check "$room" "$file"
  fi
done
[ $failed -eq 0 ] && echo "ok rooms include only rooms before them"
exit $failed
