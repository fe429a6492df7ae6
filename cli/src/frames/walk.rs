//! One function's frame, from its machine code.
//!
//! The code is followed along its branches with a small state: how far below the return address the stack pointer is,
//! how far down the stack was touched, and which registers hold an address of the stack or a number. The frame's size is
//! the deepest the stack pointer gets. A page is *unprobed* if the stack pointer moves by more than a page past what was
//! touched. What the compiler makes of a large frame is one of
//!
//! ```text
//!   sub  rsp, 4096             lea  r11, [rsp - N]          N a multiple of the page
//!   mov  [rsp], 0        L:    sub  rsp, 4096
//!   sub  rsp, 4096             mov  [rsp], 0
//!   mov  [rsp], 0              cmp  rsp, r11
//!   sub  rsp, rest             jne  L
//!                              sub  rsp, rest
//! ```
//!
//! A call touches the stack and comes back with the stack pointer where it was. What follows a table of jumps has the depth of
//! the jump. Code that loads the stack pointer from elsewhere has left its frame, and is not followed into the other stack.

use std::collections::HashMap;

use iced_x86::{
    Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register,
};

/// A page, in bytes.
const PAGE: i64 = 4096;
/// What a call leaves as it was.
const PRESERVED: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// What is known of a function's frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// Its size, in bytes below the return address.
    pub(super) size: u64,
    /// The first instruction that moves the stack pointer by more than a page past what was touched.
    pub(super) unprobed_at: Option<u64>,
    /// The first instruction that moves it by an amount that is not known.
    pub(super) unsized_at: Option<u64>,
}

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// The address so many bytes below the return address.
    Depth(i64),
    Number(i64),
}

/// What is known before an instruction.
#[derive(Clone, Debug, Default)]
struct State {
    /// Bytes from the return address down to the stack pointer.
    depth: i64,
    /// Bytes from there down to the lowest one that was touched.
    touched: i64,
    registers: HashMap<Register, Value>,
    /// What the stack pointer was compared with by the last instruction, as a depth.
    compared: Option<i64>,
}

impl State {
    fn value(&self, register: Register) -> Option<Value> {
        match register.full_register() {
            Register::RSP => Some(Value::Depth(self.depth)),
            other => self.registers.get(&other).copied(),
        }
    }

    fn depth_of(&self, register: Register) -> Option<i64> {
        match self.value(register) {
            Some(Value::Depth(depth)) => Some(depth),
            _ => None,
        }
    }

    /// The depth of `[base + displacement]`, if it is on the stack.
    fn place(&self, instruction: &Instruction) -> Option<i64> {
        let plain = instruction.memory_index() == Register::None;
        let depth = self.depth_of(instruction.memory_base()).filter(|_| plain)?;
        Some(depth.wrapping_sub(instruction.memory_displacement64().cast_signed()))
    }
}

/// Where the code goes on.
enum Next {
    /// The stack pointer is not in this frame any more.
    Gone,
    On(State),
}

/// Reads functions.
pub(super) struct Reader {
    info: InstructionInfoFactory,
}

impl Default for Reader {
    fn default() -> Self {
        Self { info: InstructionInfoFactory::new() }
    }
}

impl core::fmt::Debug for Reader {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Reader")
    }
}

/// One function, as far as it was followed.
struct Path<'a> {
    decoder: Decoder<'a>,
    start: u64,
    /// Whether a byte belongs to an instruction that was followed.
    covered: Vec<bool>,
    branches: Vec<(u64, State)>,
    /// What comes after a call is followed last: the call may never come back, and what stands there be something else.
    after_calls: Vec<(u64, State)>,
    /// What was known at a jump through a table.
    table: Option<State>,
    walked: Walked,
}

impl Reader {
    /// Reads the function whose machine code is `code`, at `start`.
    pub(super) fn walk(&mut self, code: &[u8], start: u64) -> Walked {
        let mut path = Path {
            decoder: Decoder::with_ip(64, code, start, DecoderOptions::NONE),
            start,
            covered: vec![false; code.len()],
            branches: vec![(start, State::default())],
            after_calls: Vec::new(),
            table: None,
            walked: Walked::default(),
        };
        while let Some((at, state)) = path.next_place() {
            path.follow(at, state, &mut self.info);
        }
        path.walked
    }
}

impl Path<'_> {
    /// Where to go on: a branch, then what follows a call, then what only a table can lead to.
    fn next_place(&mut self) -> Option<(u64, State)> {
        self.branches.pop().or_else(|| self.after_calls.pop()).or_else(|| {
            let table = self.table.clone()?;
            let hole = self.covered.iter().position(|covered| !covered)?;
            Some((self.start.wrapping_add(hole as u64), table))
        })
    }

    /// The byte at `at`, counted from the start, if it is of this function and was not followed yet.
    fn fresh(&self, at: u64) -> Option<usize> {
        let offset = usize::try_from(at.wrapping_sub(self.start)).ok()?;
        (!*self.covered.get(offset)?).then_some(offset)
    }

    /// Follows the code from `at` until it ends, branches away or was followed before.
    fn follow(&mut self, mut at: u64, mut state: State, info: &mut InstructionInfoFactory) {
        while let Some(offset) = self.fresh(at) {
            let instruction = self.decode(offset, at);
            let compared = state.compared.take();
            self.touch(&instruction, &mut state, info);
            match self.go_on(&instruction, state, compared) {
                Some(next) => state = next,
                None => return,
            }
            at = instruction.next_ip();
        }
    }

    fn decode(&mut self, offset: usize, at: u64) -> Instruction {
        // Within the code: `offset` is an index of `covered`.
        let _ = self.decoder.set_position(offset);
        self.decoder.set_ip(at);
        let instruction = self.decoder.decode();
        let end = (offset + instruction.len().max(1)).min(self.covered.len());
        self.covered[offset..end].fill(true);
        instruction
    }

    /// Notes what `instruction` touches, and forgets the registers that it writes.
    fn touch(&mut self, instruction: &Instruction, state: &mut State, info: &mut InstructionInfoFactory) {
        let used = info.info(instruction);
        for memory in used.used_memory() {
            let touches = matches!(memory.access(), OpAccess::Read | OpAccess::Write | OpAccess::ReadWrite);
            let plain = memory.index() == Register::None && touches;
            if let Some(depth) = state.depth_of(memory.base()).filter(|_| plain) {
                let reached = depth.wrapping_sub(memory.displacement().cast_signed());
                // What lies more than a page below cannot have been reached step by step.
                if reached.wrapping_sub(state.touched) <= PAGE {
                    state.touched = state.touched.max(reached);
                }
            }
        }
        let moved = effect(instruction, state);
        for register in used.used_registers() {
            if matches!(
                register.access(),
                OpAccess::Write | OpAccess::ReadWrite | OpAccess::CondWrite | OpAccess::ReadCondWrite
            ) {
                state.registers.remove(&register.register().full_register());
            }
        }
        if let Some((register, value)) = moved {
            state.registers.insert(register, value);
        }
    }

    /// The state of the next instruction in line, if the code goes on there; other ways are noted for later.
    fn go_on(&mut self, instruction: &Instruction, state: State, compared: Option<i64>) -> Option<State> {
        match instruction.flow_control() {
            FlowControl::Return | FlowControl::Exception => None,
            FlowControl::Interrupt => {
                self.after_calls.push((instruction.next_ip(), state));
                None
            }
            FlowControl::UnconditionalBranch => {
                self.branches.push((instruction.near_branch_target(), state));
                None
            }
            FlowControl::IndirectBranch => {
                self.table = Some(state);
                None
            }
            FlowControl::ConditionalBranch => {
                self.branches.push((instruction.near_branch_target(), state.clone()));
                let state = after_loop(instruction, state, compared);
                self.note(instruction, &state);
                Some(state)
            }
            FlowControl::Call | FlowControl::IndirectCall => {
                let mut state = state;
                state.registers.retain(|register, _| PRESERVED.contains(register));
                self.after_calls.push((instruction.next_ip(), state));
                None
            }
            _ => match self.step(instruction, state) {
                Next::On(state) => Some(state),
                Next::Gone => None,
            },
        }
    }

    /// What an instruction without a branch does to the stack pointer.
    fn step(&mut self, instruction: &Instruction, mut state: State) -> Next {
        match moved_stack_pointer(instruction, &state) {
            Moved::To(depth) => state.depth = depth,
            Moved::Away => return Next::Gone,
            Moved::Unknown => {
                self.walked.unsized_at.get_or_insert(instruction.ip());
                return Next::Gone;
            }
        }
        state.compared = compared(instruction, &state);
        self.note(instruction, &state);
        Next::On(state)
    }

    /// Notes how deep the stack pointer is after `instruction`.
    fn note(&mut self, instruction: &Instruction, state: &State) {
        self.walked.size = self.walked.size.max(u64::try_from(state.depth).unwrap_or(0));
        if state.depth.wrapping_sub(state.touched) > PAGE {
            self.walked.unprobed_at.get_or_insert(instruction.ip());
        }
    }
}

/// Where an instruction moves the stack pointer.
enum Moved {
    /// To this depth, which may be where it was.
    To(i64),
    /// Into another stack.
    Away,
    /// By an amount that is not known.
    Unknown,
}

fn moved_stack_pointer(instruction: &Instruction, state: &State) -> Moved {
    let by_register = instruction.op0_kind() == OpKind::Register && instruction.op0_register() == Register::RSP;
    let or = |depth: Option<i64>, otherwise| depth.map_or(otherwise, Moved::To);
    match instruction.mnemonic() {
        Mnemonic::Leave => or(state.depth_of(Register::RBP).map(|depth| depth.wrapping_sub(8)), Moved::Away),
        Mnemonic::Pop | Mnemonic::Xchg | Mnemonic::Mov if by_register => {
            or(source(instruction).and_then(|register| state.depth_of(register)), Moved::Away)
        }
        Mnemonic::Xchg if instruction.op1_register() == Register::RSP => Moved::Away,
        Mnemonic::Lea if by_register => or(state.place(instruction), Moved::Away),
        Mnemonic::Sub if by_register => {
            or(amount(instruction, state).map(|by| state.depth.wrapping_add(by)), Moved::Unknown)
        }
        Mnemonic::Add if by_register => {
            or(amount(instruction, state).map(|by| state.depth.wrapping_sub(by)), Moved::Unknown)
        }
        // Rounded down: by less than the alignment, whatever it was.
        Mnemonic::And if by_register => {
            or(amount(instruction, state).map(|mask| state.depth.wrapping_sub(mask).wrapping_sub(1)), Moved::Unknown)
        }
        Mnemonic::Push | Mnemonic::Cmp | Mnemonic::Test => Moved::To(state.depth.wrapping_sub(pushed(instruction))),
        _ if by_register => Moved::Unknown,
        _ => Moved::To(state.depth.wrapping_sub(pushed(instruction))),
    }
}

/// What a push or a pop adds to the stack pointer.
fn pushed(instruction: &Instruction) -> i64 {
    instruction.stack_pointer_increment().into()
}

/// The register that an instruction of two operands reads.
fn source(instruction: &Instruction) -> Option<Register> {
    (instruction.op_count() == 2 && instruction.op1_kind() == OpKind::Register).then(|| instruction.op1_register())
}

/// The number that an instruction of two operands adds, takes away or keeps.
fn amount(instruction: &Instruction, state: &State) -> Option<i64> {
    match source(instruction) {
        Some(register) => match state.value(register) {
            Some(Value::Number(number)) => Some(number),
            _ => None,
        },
        None => instruction.try_immediate(1).ok().map(u64::cast_signed),
    }
}

/// The register other than the stack pointer that `instruction` gives a known value, and that value.
fn effect(instruction: &Instruction, state: &State) -> Option<(Register, Value)> {
    let whole = instruction.op_count() == 2 && instruction.op0_kind() == OpKind::Register;
    let register = whole.then(|| instruction.op0_register().full_register()).filter(|it| *it != Register::RSP)?;
    let by = |sign: i64| match (state.value(register)?, amount(instruction, state)?) {
        (Value::Depth(depth), by) => Some(Value::Depth(depth.wrapping_sub(by.wrapping_mul(sign)))),
        (Value::Number(number), by) => Some(Value::Number(number.wrapping_add(by.wrapping_mul(sign)))),
    };
    let value = match instruction.mnemonic() {
        Mnemonic::Mov => match source(instruction) {
            Some(source) => state.value(source),
            None => amount(instruction, state).map(Value::Number),
        },
        Mnemonic::Lea => state.place(instruction).map(Value::Depth),
        Mnemonic::Add => by(1),
        Mnemonic::Sub => by(-1),
        _ => None,
    };
    value.map(|value| (register, value))
}

/// What a comparison compares the stack pointer with, as a depth.
fn compared(instruction: &Instruction, state: &State) -> Option<i64> {
    let two = instruction.mnemonic() == Mnemonic::Cmp && instruction.op0_kind() == OpKind::Register;
    let (one, other) = (two.then(|| instruction.op0_register())?, source(instruction)?);
    match (one, other) {
        (Register::RSP, other) | (other, Register::RSP) => state.depth_of(other),
        _ => None,
    }
}

/// What is known after a loop that goes on until the stack pointer is where it was compared with.
fn after_loop(instruction: &Instruction, state: State, compared: Option<i64>) -> State {
    let backwards = instruction.near_branch_target() <= instruction.ip();
    match compared.filter(|end| backwards && *end > state.depth) {
        // Each turn does the same: if this one touched all of its part, the others do.
        Some(end) if state.touched >= state.depth => State { depth: end, touched: end, ..state },
        Some(end) => State { depth: end, ..state },
        None => state,
    }
}
