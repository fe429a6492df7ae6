#!/bin/sh
# Stands in for the emulator in tests: FAKE_BOOT says how its boots end. It looks at its arguments as far as a test needs.

while [ $# -gt 0 ]; do
    case "$1" in
    --version) echo "fake emulator 1"; exit 0 ;;
    -append) words="$2" ;;
    -m) memory="$2" ;;
    file:*) com2="${1#file:}" ;;
    esac
    shift
done
mode="${words#mode=}"
mode="${mode%% *}"

facts() {
    case "$words" in
    mode=control*direct*) cat <<'FACTS'
fact control.victim.range 0xffff888000100000 0xffff888000104000
fact control.neighbour.owner 5
fact control.neighbour.word 0xffff8880000ffff8 0x1111 0x4141414141414141
fact control.thread_info.word 0xffff888000100000 7 0x4141414141414141
fact control.faults 0
FACTS
        ;;
    mode=control*) echo "fact control.mapped_thread_info.word 0xffffc90000004000 7 9"; echo "fact control.faults 0" ;;
    mode=story*) cat <<'FACTS'
BUG: TASK stack guard page was hit at ffffc90000003ff8 (stack is ffffc90000004000..ffffc90000008000)
 recurse+0x18
---[ end trace ]---
fact overflow.wait 4 139
fact overflow.alive 6
fact overflow.expected 6
fact fragmentation.free 1048576
fact fragmentation.direct.got 0
fact fragmentation.virtual.got 60
fact guard.frames 0
fact balance.frames 50000 50000
fact balance.tables 4 4
fact balance.slots 0
fact cost.page_table_bytes 64 4096
fact area.slot 0 live 1024 16384 2 init
FACTS
        ;;
    mode=count*) cat <<'FACTS'
fact cost.calibration 100000 100000
fact cost.virtual.p50 900
fact cost.virtual.clear 520
fact cost.direct.p50 800
fact cost.direct.clear 640
FACTS
        ;;
    esac
}

case "$FAKE_BOOT" in
orderly) facts; echo "marker end-of-$mode"; exit 33 ;;
reset) facts; exit 0 ;;
hang) echo "$$ $com2" >"$FAKE_NOTE"; exec sleep 60 ;;
killed) kill -9 $$ ;;
refuses) echo "qemu: cannot set up guest memory" >&2; exit 1 ;;
exits) echo "words: $words"; echo "exit 7" >"$com2"; exit 33 ;;
signalled) echo "kernel log" >"$com2"; echo "signal 11" >>"$com2"; exit 33 ;;
dies) printf 'half a li'; echo "booting" >"$com2"; exit 0 ;;
echoes) head -c 6; echo "exit 0" >"$com2"; exit 33 ;;
esac
