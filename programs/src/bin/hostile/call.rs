//! One system call, made with whatever words.

use core::arch::asm;

/// A call and its words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) number: usize,
    pub(crate) words: [usize; 6],
}

/// Calls that a copy of the caller returns from, with 0.
const COPYING: [usize; 4] = [56, 57, 58, 435];
/// Calls that send a signal, and which word it is.
const SIGNALLING: [(usize, usize); 5] = [(62, 1), (129, 1), (200, 1), (234, 2), (297, 2)];
/// Signals that end nobody: none, and those that are ignored.
const HARMLESS: [usize; 4] = [0, 17, 23, 28];

impl Call {
    /// The call, if it sends a signal, with one that ends nobody: the targets are anybody.
    pub(crate) fn made_harmless(mut self) -> Self {
        if let Some((_, place)) = SIGNALLING.iter().find(|(number, _)| *number == self.number) {
            self.words[*place] = HARMLESS[self.words[*place] % HARMLESS.len()];
        }
        self
    }

    /// Makes it. Copies that it makes of the caller end at once.
    pub(crate) fn make(&self) -> isize {
        let copying = usize::from(COPYING.contains(&self.number));
        let answer;
        // SAFETY: none in general: the call may take this program's memory away, and the process is there for that. Copies touch no
        // memory, not even the stack, which may be this one's.
        unsafe {
            asm!(
                "syscall",
                "test r12, r12", // does it copy the caller?
                "jz 2f",
                "test rax, rax", // is this the copy?
                "jnz 2f",
                "mov eax, 60", // exit
                "xor edi, edi",
                "syscall",
                "ud2",
                "2:",
                inlateout("rax") self.number => answer,
                inlateout("rdi") self.words[0] => _,
                in("rsi") self.words[1],
                in("rdx") self.words[2],
                in("r10") self.words[3],
                in("r8") self.words[4],
                in("r9") self.words[5],
                in("r12") copying,
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        answer
    }
}

/// The call with these words, the rest zero.
pub(crate) fn make<const COUNT: usize>(number: i64, first: [usize; COUNT]) -> isize {
    let mut words = [0; 6];
    words.iter_mut().zip(first).for_each(|(word, given)| *word = given);
    Call { number: number as usize, words }.make()
}
