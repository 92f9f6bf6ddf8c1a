#!/bin/sh
# Runs a command again while its exit code says so: 75 (saved) and 134 (a peer was lost) always,
# 70 and 137 at most three times. SIGTERM goes to the command, which saves, and ends this as well.
#
#     sh launch/again.sh .venv/bin/python -m launch.train --experiment=... --workdir=...
tries=0 stopped= child=
trap 'stopped=1; [ -n "$child" ] && kill -TERM "$child" 2>/dev/null' TERM INT
while :; do
    "$@" &
    child=$!
    [ -n "$stopped" ] && kill -TERM "$child"  # a signal came before its number was known
    wait "$child"
    code=$?
    while kill -0 "$child" 2>/dev/null; do  # a signal ended the wait, not the command
        wait "$child"
        code=$?
    done
    child=
    [ -n "$stopped" ] && exit "$code"
    case $code in
        75 | 134) ;;
        70 | 137)
            tries=$((tries + 1))
            [ "$tries" -gt 3 ] && exit "$code"
            ;;
        *) exit "$code" ;;
    esac
    [ "$code" = 134 ] && echo "again: another process was lost, as an abort mostly means: the lines" \
        "above have its number after 'unhealthy', or 'leader' for process 0, and its own log has the" \
        "cause; the run goes on from its last checkpoint once all processes are there again" >&2
    echo "again: exit code $code, starting the command again" >&2
    sleep "${AGAIN_SECONDS:-5}" &
    child=$!
    wait "$child"
    child=
    [ -n "$stopped" ] && exit "$code"
done
