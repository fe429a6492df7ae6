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
