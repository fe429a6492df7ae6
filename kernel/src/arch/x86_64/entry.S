// Exceptions and interrupts, but for those with an IST stack (ist.S) and for SYSCALL (syscall.S).

// ---- the stubs: one for each vector, 16 bytes apart, so that the gates can be computed ------------------------------

.section .text.entry, "ax", @progbits
.balign 16
.globl trap_stubs
.type trap_stubs, @function
trap_stubs:
.set VECTOR, 0
.rept 256                               // stack: [error,] rip, cs, rflags, rsp, ss
.balign 16
    .if !(VECTOR == 8 || (VECTOR >= 10 && VECTOR <= 14) || VECTOR == 17 || VECTOR == 21 || VECTOR == 29 || VECTOR == 30)
    pushq $0                            // the hardware pushed no error code: push one, for a uniform frame
    .endif
    pushq $VECTOR                       // stack: vector, error, rip, cs, rflags, rsp, ss
    .if VECTOR < 32
    jmp exception_entry                 // on the stack that was current
    .else
    jmp interrupt_entry                 // on the interrupt stack
    .endif
.set VECTOR, VECTOR + 1
.endr

// ---- exceptions: handled on the stack that was current --------------------------------------------------------------
//
//     higher   ss rsp rflags cs rip error vector       pushed already
//              rax ... r15                             <- the frame
//     lower    saved rip, saved rbp                    <- the link: %rbp
//              the handler's own frames

.balign 16
.type exception_entry, @function
exception_entry:
    PUSH_REGISTERS                      // stack: TrapFrame
    CLEAN_FLAGS                         // DF and AC
    testb $3, FRAME_CS(%rsp)            // from user mode?
    jz 1f                               // no
    swapgs                              // yes: GS is the user's, exchange it for the per-CPU block
    lfence                              // and let nothing below run ahead with the wrong one
    PUSH_LINK_END                       // stack: link, TrapFrame; the chain of frame pointers ends here
    jmp 3f                              // common part
1:  cmpq $iret_to_user, FRAME_RIP(%rsp) // did the very last instruction of a return to user mode fault?
    jne 2f                              // no
    swapgs                              // yes: it is kernel code, but GS was the user's already,
    PUSH_LINK_END                       // and so was rbp
    jmp 3f                              // common part
2:  PUSH_LINK                           // stack: link, TrapFrame; the chain goes on in the interrupted function
3:  movq %rsp, %rbp                     // the link is our frame pointer
    leaq LINK_BYTES(%rsp), %rdi         // first argument: the frame
    callq {exception}                   // may sleep, may kill the task, may turn interrupts on
    jmp trap_done                       // rbp is callee-saved: still the link

// ---- interrupts: the frame stays on the interrupted stack, the handler runs on the interrupt stack ------------------
//
//     the interrupted stack                            the interrupt stack
//     higher   TrapFrame                               higher   return address of the call below     <- its top
//     lower    link  <- %rbp, CPU_IRQ_LINK  <--------- lower    saved %rbp: so the chain crosses over

.balign 16
.type interrupt_entry, @function
interrupt_entry:
    PUSH_REGISTERS                      // stack: TrapFrame
    CLEAN_FLAGS                         // DF and AC
    testb $3, FRAME_CS(%rsp)            // from user mode?
    jz 1f                               // no
    swapgs                              // yes: GS is the user's, exchange it for the per-CPU block
    lfence                              // and let nothing below run ahead with the wrong one
    PUSH_LINK_END                       // stack: link, TrapFrame
    jmp 2f                              // common part
1:  PUSH_LINK                           // stack: link, TrapFrame
2:  movq %rsp, %rbp                     // the link is our frame pointer, and the way back to this stack
    leaq LINK_BYTES(%rsp), %rdi         // first argument: the frame
    incl %gs:CPU_IRQ_DEPTH              // one more handler has begun
    cmpl $1, %gs:CPU_IRQ_DEPTH          // is it the first?
    jne 3f                              // no: we are on the interrupt stack already
    movq %rbp, %gs:CPU_IRQ_LINK         // yes: say where it came from,
    movq %gs:CPU_IRQ_STACK, %rsp        // and go there
3:  callq {interrupt}                   // runs with interrupts off unless it turns them on

.type interrupt_done, @function
interrupt_done:                         // from above, or from a handler that was abandoned; %rbp: the link
    cli                                 // the handler may have turned interrupts on
    movq %rbp, %rsp                     // back on the interrupted stack: link, TrapFrame
    decl %gs:CPU_IRQ_DEPTH              // one handler fewer

// ---- the way out, common to exceptions, interrupts and system calls that cannot use SYSRET --------------------------

.type trap_done, @function
trap_done:                              // %rbp: the link
    cli                                 // a handler may have turned interrupts on
    movq %rbp, %rsp                     // stack: link, TrapFrame
    testb $3, LINK_BYTES+FRAME_CS(%rsp) // to user mode?
    jz 2f                               // no
    cmpl $0, %gs:CPU_FLAGS              // yes: has the task anything to do before?
    je 1f                               // no
    leaq LINK_BYTES(%rbp), %rdi         // first argument: the frame
    callq {before_return}               // may switch tasks; comes back with interrupts off
1:  addq $LINK_BYTES, %rsp              // stack: TrapFrame
    jmp return_to_user                  // with interrupts off since the flags were looked at
2:  testl $NEED_RESCHED, %gs:CPU_FLAGS  // back into the kernel: is another task due?
    jz 3f                               // no
    leaq LINK_BYTES(%rbp), %rdi         // first argument: the frame
    callq {before_preemption}           // switches tasks, if it may; comes back with interrupts off
3:  addq $LINK_BYTES, %rsp              // stack: TrapFrame

.type restore_frame, @function
restore_frame:                          // %rsp: a TrapFrame of the kernel
    POP_REGISTERS                       // stack: vector, error, rip, cs, rflags, rsp, ss
    addq $16, %rsp                      // stack: rip, cs, rflags, rsp, ss
    iretq                               // back into the kernel

.type return_to_user, @function
return_to_user:                         // %rsp: a TrapFrame of user mode; interrupts are off
    swapgs                              // from here on GS is the user's: no access to the per-CPU block
    POP_REGISTERS                       // stack: vector, error, rip, cs, rflags, rsp, ss
    addq $16, %rsp                      // stack: rip, cs, rflags, rsp, ss
.type iret_to_user, @function
iret_to_user:                           // exception_entry knows this address
    iretq                               // faults here, in the kernel, if the frame is bad

// ---- enter_user(frame) -> !: the way out alone ----------------------------------------------------------------------

.globl enter_user_frame
.type enter_user_frame, @function
enter_user_frame:                       // %rdi: a TrapFrame of user mode
    cli                                 // until the iretq turns them on
    movq %rdi, %rsp                     // stack: TrapFrame, wherever it lies
    jmp return_to_user                  // as if returning from a trap

// ---- abandon_interrupt() -> !: the way out of a handler that will not go on -----------------------------------------

.globl abandon_interrupt_handlers
.type abandon_interrupt_handlers, @function
abandon_interrupt_handlers:
    cli                                 // nothing may nest from here on
    movl $1, %gs:CPU_IRQ_DEPTH          // whatever was nested is gone too
    movq %gs:CPU_IRQ_LINK, %rbp         // the link on the stack that the first handler interrupted
    movq %rbp, %rsp                     // off the stack that we came on,
    movq %gs:CPU_DF_HEADER, %rax        // so that the #DF stack
    movq $0, IST_BUSY(%rax)             // is free
    jmp interrupt_done                  // as if that handler had returned
