//! What the port must know about the architecture: where a signal handler finds the registers of the interrupted code.
//!
//! One module an architecture, all with the same set of names:
//!
//! | name | what |
//! | --- | --- |
//! | `PAGE_SIZE` | the page size that Linux uses there, in bytes |
//! | `Interrupted::of(context)` | the registers in the third argument of a signal handler |
//! | `Interrupted::{instruction, stack_pointer, frame_pointer}` | where the interrupted code was |
//! | `Interrupted::is_protection()` | the page was there, or would not help: an access that is forbidden |
//! | `Interrupted::continue_at(instruction, stack pointer)` | what runs when the handler returns |
//! | `damage::call_at(stack pointer)` | calls a function of a known depth there |
//! | `damage::signal_at(stack pointer, ...)` | sends this thread a signal while it stands there |
//! | `damage::fill_down(stack pointer)` | a leaf that writes downwards from there, without a frame |
//! | `damage::pop_at(stack pointer)` | pops a word there |
//! | `damage::RETURN` | the bytes of a function that returns at once |
//! | `current::set_gs(base)` | where per-CPU words are |
//! | `current::{switch_only, per_cpu, task_struct, slot}` | ways to the running task's flags |
//!
//! Nothing else in this crate asks for the architecture. Context: the fault path; only reads and writes the signal frame.

#[cfg(target_arch = "x86_64")]
mod x86_64;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86_64::{Interrupted, PAGE_SIZE, current, damage};

#[cfg(not(target_arch = "x86_64"))]
compile_error!("vmstack-hosted has no module for this architecture yet");
