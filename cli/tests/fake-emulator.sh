#!/bin/sh
# Stands in for the emulator in tests: FAKE_BOOT says how its boots end. It looks at its arguments as far as a test needs.

while [ $# -gt 0 ]; do
    case "$1" in
    --version) echo "fake emulator 1"; exit 0 ;;
    -append) words="$2" ;;
    -m) memory="$2" ;;
    file:*) com2="${1#file:}" ;;
    if=none,id=disk,*) disk="${1#*,file=}" ;;
    esac
    shift
done
boots="$(dirname "$0")/boots"
mode="${words#mode=}"
mode="${mode%% *}"

facts() {
    case "$words" in
    mode=control*direct*) cat "$boots/control-direct.txt" ;;
    mode=control*) cat "$boots/control-mapped.txt" ;;
    mode=storage*) sum=$(sha256sum <"$disk"); sed "s/@DISK@/${sum%% *}/" "$boots/storage.txt" ;;
    mode=*) cat "$boots/$mode.txt" ;;
    esac
}

# What a boot of mode=crash prints. FAKE_DIES names a crash under which the machine resets itself.
crashes() {
    for word in $words; do
        name="${word#crash=}"
        [ "$name" = "$word" ] && continue
        echo "fact crash.begin $name"
        [ "$name" = "$FAKE_DIES" ] && exit 0
        cat "$boots/crash/$name.txt"
        case "$name" in
        OVERFLOW_IN_INIT) exit 35 ;;
        OVERFLOW_AT_EVERY_OFFSET) sweep ;;
        esac
        echo "fact crash.end $name"
    done
}

sweep() {
    for kind in syscall exception interrupt call; do
        echo "fact sweep $kind 0 reported 0xffffffff80200100"
        seq 8 8 4088 | sed "s/.*/fact sweep $kind & completed 0x0/"
    done
    seq 0 8 4088 | sed 's/.*/fact sweep nmi & completed 0x0/'
}

case "$FAKE_BOOT" in
orderly)
    case "$words" in
    console=*) cat "$boots/life.txt"; echo "fact linux.release 6.1"; echo "marker end-of-linux"; exit 33 ;;
    mode=program*) cat "$boots/life.txt"; echo "exit 0" >"$com2"; exit 33 ;;
    esac
    if [ "$mode" = crash ]; then crashes; else facts; fi
    echo "marker end-of-$mode"
    exit 33
    ;;
reset) facts; exit 0 ;;
hang) echo "$$ $com2" >"$FAKE_NOTE"; exec sleep 60 ;;
killed) kill -9 $$ ;;
refuses) echo "qemu: cannot set up guest memory" >&2; exit 1 ;;
exits) echo "words: $words"; echo "exit 7" >"$com2"; exit 33 ;;
signalled) echo "kernel log" >"$com2"; echo "signal 11" >>"$com2"; exit 33 ;;
dies) printf 'half a li'; echo "booting" >"$com2"; exit 0 ;;
echoes) head -c 6; echo "exit 0" >"$com2"; exit 33 ;;
esac
