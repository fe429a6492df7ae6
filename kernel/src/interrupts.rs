//! Interrupts: what each vector means, and the messages between CPUs.
//!
//! | vector | what |
//! | --- | --- |
//! | the timer's | a tick |
//! | `POKE` | another CPU queued a task: an idle CPU wakes up and looks |
//! | `SHOOTDOWN` | another CPU unmapped stacks: flush, then acknowledge |
//!
//! Handlers run on the CPU's interrupt stack, with interrupts off.

use crate::arch::apic::{self, Message, Target};
use crate::arch::frame::TrapFrame;
use crate::arch::percpu;
use crate::stacks;
use crate::task::sched;

const POKE: u8 = apic::VECTOR_IPI;
const SHOOTDOWN: u8 = apic::VECTOR_IPI + 1;

/// Handles the interrupt in `frame`, and ends it in the APIC.
pub(crate) fn handle(frame: &TrapFrame) {
    serve(frame.vector as u8);
}

/// Serves the interrupts that were being delivered to this CPU when a stack ended: they are in service in the APIC, and their
/// handlers never ran. The highest first. Returns how many.
///
/// # Context
///
/// Interrupts off, no handler running on this CPU.
pub(crate) fn serve_undelivered() -> usize {
    let mut served = 0;
    while let Some(vector) = apic::in_service().highest() {
        serve(vector);
        served += 1;
    }
    served
}

fn serve(vector: u8) {
    match vector {
        apic::VECTOR_TIMER => sched::tick(),
        POKE => percpu::this_cpu().set_need_resched(true),
        SHOOTDOWN => stacks::acknowledge_shootdown(),
        // A spurious interrupt is not in service: ending it would end another.
        apic::VECTOR_SPURIOUS => return,
        _ => {}
    }
    apic::end_of_interrupt();
}

/// Makes the other CPUs look at the run queue.
pub(crate) fn poke_others() {
    send(POKE);
}

/// Makes the other CPUs flush and acknowledge. Does not wait for them.
pub(crate) fn ask_for_shootdown() {
    send(SHOOTDOWN);
}

/// Sends `vector` to the other CPUs. An APIC that is busy is asked again: a shootdown that is not heard is never due.
fn send(vector: u8) {
    const TRIES: usize = 1000;
    if stacks::cpus_up() > 1 {
        let sent = (0..TRIES).any(|_| apic::send(Target::AllButSelf, Message::Fixed(vector)).is_ok());
        assert!(sent, "the APIC does not send vector {vector:#x}");
    }
}

/// Stops the other CPUs, wherever they are.
pub(crate) fn stop_others() {
    // Nothing can be done about a message that is not delivered by a machine that is being stopped.
    let _ = apic::send(Target::AllButSelf, Message::Nmi);
}
