//! Signals, with Linux's rules.
//!
//! | file | what |
//! | --- | --- |
//! | `number`, `info` | which there are, and what they say |
//! | `action` | what a process wants done about each |
//! | `pending` | those that were sent and not taken yet |
//! | `state` | what a process has of signals, and why none is lost |
//! | `thread` | what a thread has of signals: what it blocks, its alternate stack |
//! | `send` | to a thread, to a process, to a parent |
//! | `deliver`, `frame` | what a thread does about them on its way to user mode; handlers' frames |
//! | `timers` | `setitimer` and `alarm` |
//!
//! There is no terminal that sends signals, and nobody traces. Core dumps are not written.

pub(crate) mod action;
mod deliver;
mod frame;
pub(crate) mod info;
mod number;
pub(crate) mod own;
mod pending;
mod send;
mod state;
mod thread;
pub(crate) mod timers;

pub(crate) use deliver::deliver;
pub(crate) use frame::pop;
pub(crate) use info::{Info, code};
pub(crate) use number::{BUS, CHLD, CONT, FPE, ILL, KILL, SEGV, Set, Signal, TRAP};
pub(crate) use own::fault;
pub(crate) use send::{broken_pipe, child_ended, leave, to_process, to_thread};
pub(crate) use state::{ProcessSignals, Report};
pub(crate) use thread::{StackWords, ThreadSignals};
