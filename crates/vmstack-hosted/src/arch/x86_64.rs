//! x86-64: the general registers of `ucontext_t`, and the page-fault error code that Linux leaves in it.

use vmstack::VirtAddr;

/// The page size, in bytes: Linux on x86-64 knows no other.
pub(crate) const PAGE_SIZE: usize = 4096;

/// Page-fault error code: the page was present (Intel SDM vol. 3, 4.7).
const PRESENT: i64 = 1 << 0;
/// Page-fault error code: an instruction fetch.
const FETCH: i64 = 1 << 4;
/// The direction flag, which a function may expect to be clear (System V ABI, 3.2.1).
const DIRECTION: i64 = 1 << 10;

/// The registers of the code that a signal interrupted.
pub(crate) struct Interrupted<'a> {
    registers: &'a mut [i64; 23],
}

impl<'a> Interrupted<'a> {
    /// The registers in `context`, the third argument of a signal handler.
    ///
    /// # Safety
    ///
    /// `context` is that argument, in the handler that was given it, and this is the only view of it.
    pub(crate) unsafe fn of(context: *mut libc::c_void) -> Self {
        // SAFETY: the kernel wrote a `ucontext_t` there (sigaction(2)), and the caller has no other reference to it.
        let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
        Self { registers: &mut context.uc_mcontext.gregs }
    }

    fn get(&self, register: i32) -> i64 {
        self.registers.get(register as usize).copied().unwrap_or(0)
    }

    fn set(&mut self, register: i32, value: i64) {
        if let Some(place) = self.registers.get_mut(register as usize) {
            *place = value;
        }
    }

    fn address(&self, register: i32) -> VirtAddr {
        VirtAddr::new(self.get(register) as usize)
    }

    /// The instruction that faulted.
    pub(crate) fn instruction(&self) -> VirtAddr {
        self.address(libc::REG_RIP)
    }

    /// The stack pointer at that moment.
    pub(crate) fn stack_pointer(&self) -> VirtAddr {
        self.address(libc::REG_RSP)
    }

    /// The frame pointer at that moment, if the code keeps one.
    pub(crate) fn frame_pointer(&self) -> VirtAddr {
        self.address(libc::REG_RBP)
    }

    /// Whether mapping the page would not have helped: it was present, or instructions were fetched from it.
    pub(crate) fn is_protection(&self) -> bool {
        self.get(libc::REG_ERR) & (PRESENT | FETCH) != 0
    }

    /// Makes the handler's return go on at `instruction` with the stack pointer `stack_pointer`, as after a call.
    pub(crate) fn continue_at(&mut self, instruction: VirtAddr, stack_pointer: VirtAddr) {
        self.set(libc::REG_RIP, instruction.get() as i64);
        self.set(libc::REG_RSP, stack_pointer.get() as i64);
        self.set(libc::REG_EFL, self.get(libc::REG_EFL) & !DIRECTION);
    }
}

pub(crate) mod current;
pub(crate) mod damage;
