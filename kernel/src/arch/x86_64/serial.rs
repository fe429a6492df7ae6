//! The two serial ports: 16550, polled, 115200 baud, 8 bits, no parity, one stop bit.
//!
//! No lock, no memory but a flag, no interrupt: everything here may be called in any context, a fault in the fault
//! handler included. Bytes of two CPUs that write at once are mixed; whoever wants whole lines brings a lock. A port
//! that never becomes ready costs a bounded time: the rest of the write is dropped.

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::cpu::{in8, out8};

/// How often the line status is read before a port is given up: some tens of seconds under emulation, where whoever reads the other
/// end may have other things to do.
const PATIENCE: u32 = 50_000_000;
/// The same for a port that was given up before.
const IMPATIENCE: u32 = 1_000;
/// Bytes that the transmitter takes at once, when its queue is on.
const QUEUE_BYTES: usize = 16;

const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const FIFO_CONTROL: u16 = 2;
const INTERRUPT_ID: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;

const DIVISOR_LATCH: u8 = 0x80;
const EIGHT_BITS: u8 = 0x03;
/// Queues on and emptied, interrupt level 14 bytes.
const FIFO_ON: u8 = 0xc7;
/// In the interrupt identification: the queues are on and work.
const FIFO_WORKS: u8 = 0xc0;
/// Data terminal ready, request to send, and the line that lets interrupts out.
const MODEM_READY: u8 = 0x0b;
const RECEIVED: u8 = 0x01;
const TRANSMITTER_EMPTY: u8 = 0x20;

/// A serial port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Port {
    /// The console.
    Com1,
    /// The side channel.
    Com2,
}

/// Whether a port had no room for longer than anybody waits.
static GIVEN_UP: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
static HAS_QUEUE: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];

impl Port {
    pub(super) const fn base(self) -> u16 {
        match self {
            Self::Com1 => 0x3f8,
            Self::Com2 => 0x2f8,
        }
    }

    fn read(self, register: u16) -> u8 {
        // SAFETY: the registers of a 16550, or of nothing (all ones); reading takes a received byte at most.
        unsafe { in8(self.base() + register) }
    }

    fn write(self, register: u16, value: u8) {
        // SAFETY: the registers of a 16550, which does not touch memory.
        unsafe { out8(self.base() + register, value) };
    }

    /// Waits until the transmitter has room; false if it does not for long, and then not for long again until it has.
    fn wait_for_room(self) -> bool {
        let given_up = &GIVEN_UP[self as usize];
        let patience = if given_up.load(Relaxed) { IMPATIENCE } else { PATIENCE };
        let has_room = (0..patience).any(|_| self.read(LINE_STATUS) & TRANSMITTER_EMPTY != 0);
        given_up.store(!has_room, Relaxed);
        has_room
    }
}

/// Sets up both ports. Nothing is lost by writing before.
pub(super) fn init() {
    for port in [Port::Com1, Port::Com2] {
        port.write(INTERRUPT_ENABLE, 0);
        port.write(LINE_CONTROL, DIVISOR_LATCH | EIGHT_BITS);
        port.write(DATA, 1);
        port.write(INTERRUPT_ENABLE, 0);
        port.write(LINE_CONTROL, EIGHT_BITS);
        // Turning the queues on empties them, and COM1 may have input already: it goes without.
        if matches!(port, Port::Com2) {
            port.write(FIFO_CONTROL, FIFO_ON);
        }
        port.write(MODEM_CONTROL, MODEM_READY);
        let works = port.read(INTERRUPT_ID) & FIFO_WORKS == FIFO_WORKS;
        HAS_QUEUE[port as usize].store(works, Relaxed);
    }
}

/// Writes `bytes` to `port`, and returns when the port has taken them.
pub(crate) fn write_bytes(port: Port, bytes: &[u8]) {
    let burst = if HAS_QUEUE[port as usize].load(Relaxed) { QUEUE_BYTES } else { 1 };
    write_in_bursts(port, bytes, burst);
}

/// Writes `bytes` to `port` although another CPU may be in the middle of a write: byte by byte, so that little is lost.
pub(crate) fn write_bytes_forced(port: Port, bytes: &[u8]) {
    write_in_bursts(port, bytes, 1);
}

fn write_in_bursts(port: Port, bytes: &[u8], burst: usize) {
    for chunk in bytes.chunks(burst) {
        if !port.wait_for_room() {
            return;
        }
        for byte in chunk {
            port.write(DATA, *byte);
        }
    }
}

/// Whether `port` has received a byte that nobody has read.
#[must_use]
pub(crate) fn has_byte(port: Port) -> bool {
    let status = port.read(LINE_STATUS);
    // All ones: there is no such port.
    status != 0xff && status & RECEIVED != 0
}

/// The next byte that `port` received, if there is one.
#[must_use]
pub(crate) fn read_byte(port: Port) -> Option<u8> {
    has_byte(port).then(|| port.read(DATA))
}
