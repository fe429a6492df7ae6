// Things that happen while the stack pointer is where no compiler would put it, for the crashes that provoke.rs lists.
//
// Each function keeps its caller's stack pointer in rbx, which every callee preserves, and writes nothing to the stack
// that it moves to but what the event itself pushes. rbp stays the caller's, so a trace of a fault here goes on there.
//
//     the caller's stack                               wherever the caller says: %rdi
//     higher   return address                          higher   whatever lies there
//     lower    saved rbx       <- kept in %rbx         lower    what the event pushes   <- %rsp, N bytes above the bottom
//
// A name in braces is filled in by provoke.rs.

.set PATIENCE, {patience}

.section .text.provoke, "ax", @progbits

.macro MOVE_STACK                       // stack before: return address
    pushq %rbx                          // stack: rbx, return address; callee-saved
    movq %rsp, %rbx                     // the way back, in a register that no event changes
    movq %rdi, %rsp                     // from here on nothing of ours is on the stack
.endm

.macro MOVE_BACK                        // stack before: anything
    movq %rbx, %rsp                     // stack: rbx, return address
    popq %rbx                           // as the caller had it
.endm

// ---- provoke_call(sp): a call of a leaf that does nothing but return: 8 bytes ---------------------------------------

.balign 16
.globl provoke_call
.type provoke_call, @function
provoke_call:
    MOVE_STACK                          // stack: moved
    callq provoke_leaf                  // pushes the return address, and that is all
    MOVE_BACK                           // stack: return address
    ret                                 // the leaf was there and back

.type provoke_leaf, @function
provoke_leaf:                           // stack: return address
    ret                                 // a leaf without a frame

// ---- provoke_exception(sp): a breakpoint, which the kernel's hook knows by the address after it ---------------------

.balign 16
.globl provoke_exception
.type provoke_exception, @function
provoke_exception:
    MOVE_STACK                          // stack: moved
    int3                                // a trap: the frame's rip is the next instruction
.globl provoke_after_exception
.type provoke_after_exception, @function
provoke_after_exception:
    MOVE_BACK                           // stack: return address
    ret                                 // the handler came back

// ---- provoke_interrupt(sp, place, value, flag): one store, and its interrupt is let in ------------------------------
//
// The store raises an interrupt here, or asks another CPU to. Comes back when the flag is set, or after a bounded time.

.balign 16
.globl provoke_interrupt
.type provoke_interrupt, @function
provoke_interrupt:                      // %rdi: sp, %rsi: where to store, %edx: what, %rcx: the flag
    MOVE_STACK                          // stack: moved
    movl $PATIENCE, %eax                // how often the flag is looked at
    movl %edx, (%rsi)                   // raised; interrupts are still off
    sti                                 // let in, after the next instruction
    nop                                 // that one; here the frame is pushed
1:  cmpl $0, (%rcx)                     // has the handler run?
    jne 2f                              // yes
    pause                               // no: this is a loop that waits
    decl %eax                           // not for ever
    jnz 1b                              // look again
2:  cli                                 // off, as the caller has them
    MOVE_BACK                           // stack: return address
    ret                                 // the flag says whether it came

// ---- provoke_nmi(sp, place, value, flag): the same for what needs no letting in -------------------------------------

.balign 16
.globl provoke_nmi
.type provoke_nmi, @function
provoke_nmi:                            // %rdi: sp, %rsi: where to store, %edx: what, %rcx: the flag
    MOVE_STACK                          // stack: moved
    movl $PATIENCE, %eax                // how often the flag is looked at
    movl %edx, (%rsi)                   // raised
1:  cmpl $0, (%rcx)                     // has the handler run?
    jne 2f                              // yes
    pause                               // no: this is a loop that waits
    decl %eax                           // not for ever
    jnz 1b                              // look again
2:  MOVE_BACK                           // stack: return address
    ret                                 // the flag says whether it came

// ---- provoke_run(sp, function, argument): a function of the C ABI, on another place of the stack --------------------

.balign 16
.globl provoke_run
.type provoke_run, @function
provoke_run:                            // %rdi: sp, %rsi: the function, %rdx: its argument
    MOVE_STACK                          // stack: moved
    andq $-16, %rsp                     // as the ABI wants it before a call
    movq %rdx, %rdi                     // first argument
    callq *%rsi                         // stack: return address
    MOVE_BACK                           // stack: return address
    ret                                 // it came back

// ---- provoke_underflow(top): pops from the last word of a stack on --------------------------------------------------

.balign 16
.globl provoke_underflow
.type provoke_underflow, @function
provoke_underflow:                      // %rdi: the end of the current stack
    MOVE_STACK                          // stack: moved to its end
    subq $8, %rsp                       // stack: its topmost word
    popq %rax                           // that word; the stack is empty
    popq %rax                           // one too many: what is above is a guard
    MOVE_BACK                           // stack: return address
    ret                                 // nothing was caught

// ---- copies by a leaf without a frame -------------------------------------------------------------------------------

.balign 16
.globl provoke_copy_down
.type provoke_copy_down, @function
provoke_copy_down:                      // %rdi: the highest byte to write, %rsi: to read, %rdx: how many
    movq %rdx, %rcx                     // how many
    std                                 // downwards
    rep movsb                           // no push, no call: only the copy touches memory
    cld                                 // as the ABI wants it
    ret                                 // all of it

.balign 16
.globl provoke_copy_up
.type provoke_copy_up, @function
provoke_copy_up:                        // %rdi: the lowest byte to write, %rsi: to read, %rdx: how many
    movq %rdx, %rcx                     // how many
    rep movsb                           // upwards: DF is clear by the ABI
    ret                                 // all of it

// ---- provoke_execute_stack(): calls a byte of the stack -------------------------------------------------------------

.balign 16
.globl provoke_execute_stack
.type provoke_execute_stack, @function
provoke_execute_stack:                  // stack: return address
    pushq $0xc3                         // stack: the instruction `ret`, return address
    movq %rsp, %rax                     // where it lies
    callq *%rax                         // comes back if the stack can be executed
    addq $8, %rsp                       // stack: return address
    ret                                 // it did

// ---- provoke_double_fault(nowhere) -> !: a stack pointer that is about no stack -------------------------------------

.balign 16
.globl provoke_double_fault
.type provoke_double_fault, @function
provoke_double_fault:                   // %rdi: an address where nothing is mapped
    movq %rdi, %rsp                     // stack: nowhere
    pushq %rax                          // faults, and so does pushing the frame of that fault
    ud2                                 // there was something

// ---- provoke_use_up() -> !: pushes until the current stack ends -----------------------------------------------------

.balign 16
.globl provoke_use_up
.type provoke_use_up, @function
provoke_use_up:                         // stack: return address
    pushq %rax                          // one word less,
    jmp provoke_use_up                  // until there is none
