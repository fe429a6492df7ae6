// The four entries with a stack of their own: #DF, NMI, #MC, #DB. They may come anywhere, between an entry and its
// swapgs included, so they trust neither GS nor that they are the first: the header at the top of the stack (gdt.rs)
// has the address of the per-CPU block, and a flag that one instruction tests and sets before anything is pushed.
//
//     TSS ->  block, busy, GS base, nested             the header
//             ss rsp rflags cs rip [error]             pushed by the hardware, always at the same place
//
// GS is not exchanged but written, and written back from the header: right whatever it was, KERNEL_GS_BASE untouched.

.macro ENTER_GS header                  // header: its offset from %rsp; changes rax, rcx, rdx
    movl $GS_BASE_MSR, %ecx             // the base of GS
    rdmsr                               // as it was, in edx:eax,
    movl %eax, \header+IST_GS_BASE(%rsp)   // kept in the header,
    movl %edx, \header+IST_GS_BASE+4(%rsp) // both halves
    movl \header(%rsp), %eax            // the address of the per-CPU block:
    movl \header+4(%rsp), %edx          // both halves
    wrmsr                               // is GS's base from now on
.endm

.macro LEAVE_GS header                  // header: its offset from %rsp; changes rax, rcx, rdx
    movl \header+IST_GS_BASE(%rsp), %eax   // what ENTER_GS found,
    movl \header+IST_GS_BASE+4(%rsp), %edx // both halves,
    movl $GS_BASE_MSR, %ecx             // goes back
    wrmsr                               // where it was
.endm

.macro PUSH_LINK_OF_FRAME               // the link for the frame at %rsp, from user mode or not
    testb $3, FRAME_CS(%rsp)            // from user mode?
    jz 772f                             // no
    PUSH_LINK_END                       // yes: the chain ends
    jmp 773f                            // done
772:
    PUSH_LINK                           // the chain goes on in the interrupted function
773:
.endm

// ---- #DF: kills, never returns --------------------------------------------------------------------------------------

.section .text.entry, "ax", @progbits
.balign 16
.globl double_fault_entry
.type double_fault_entry, @function
double_fault_entry:                     // stack: error, rip, cs, rflags, rsp, ss, header (at 48)
    btsq $0, 48+IST_BUSY(%rsp)          // in use? now it is
    jc double_fault_nested              // it was: the handler's own frames are below, do not push
    pushq $8                            // stack: vector, error, ...
    PUSH_REGISTERS                      // stack: TrapFrame, header (at FRAME_BYTES)
    CLEAN_FLAGS                         // DF and AC
    ENTER_GS FRAME_BYTES                // GS: the per-CPU block
    PUSH_LINK_OF_FRAME                  // stack: link, TrapFrame
    movq %rsp, %rbp                     // the link is our frame pointer
    leaq LINK_BYTES(%rsp), %rdi         // first argument: the frame
    callq {double_fault}                // stack: [return address], link, TrapFrame; does not return
    ud2                                 // if it does

// ---- NMI: the frame moves down, off the place where the next NMI would land -----------------------------------------
//
// A fault inside the handler ends in an iretq, which lets the next NMI in. It lands on the same words, so the first
// one's frame is not left there. It is dropped and counted, and the count makes the first one's handler be called once
// more (trap.rs); only an NMI that comes during that second call is lost. Between clearing the flag and the iretq the
// flag no longer speaks for us: there, the interrupted rip does.
//
//     higher   header                                  <- TSS
//              ss rsp rflags cs rip                    where NMIs land
//              (8 bytes for alignment)
//     lower    TrapFrame, with a copy of the five      <- what the handler gets

.balign 16
.globl nmi_entry
.type nmi_entry, @function
nmi_entry:                              // stack: rip, cs, rflags, rsp, ss, header (at 40)
    cmpq $nmi_leaving, (%rsp)           // has an NMI's handler been interrupted at its last two instructions?
    jb 1f                               // no: before them
    cmpq $nmi_left, (%rsp)              // or after them?
    jb nmi_nested                       // yes, at them: its frame is still below
1:  btsq $0, 40+IST_BUSY(%rsp)          // in use? now it is
    jc nmi_nested                       // it was
    subq $8, %rsp                       // stack: alignment, rip, cs, rflags, rsp, ss, header (at 48)
    pushq 40(%rsp)                      // copy ss,
    pushq 40(%rsp)                      // rsp (each push moves what is at 40),
    pushq 40(%rsp)                      // rflags,
    pushq 40(%rsp)                      // cs,
    pushq 40(%rsp)                      // rip
    pushq $0                            // error: none
    pushq $2                            // vector
    PUSH_REGISTERS                      // stack: TrapFrame, alignment, landing place, header (at FRAME_BYTES+48)
    CLEAN_FLAGS                         // DF and AC
    ENTER_GS FRAME_BYTES+48             // GS: the per-CPU block
    PUSH_LINK_OF_FRAME                  // stack: link, TrapFrame
    movq %rsp, %rbp                     // the link is our frame pointer
    leaq LINK_BYTES(%rsp), %rdi         // first argument: the frame
    callq {nmi}                         // must not sleep, must not switch tasks
    leaq LINK_BYTES(%rbp), %rdi         // the frame

.type nmi_return, @function
nmi_return:                             // %rdi: the frame of an NMI
    movq %rdi, %rsp                     // stack: TrapFrame
    LEAVE_GS FRAME_BYTES+48             // GS as it was
    POP_REGISTERS                       // stack: vector, error, rip, cs, rflags, rsp, ss
    addq $16, %rsp                      // stack: rip, cs, rflags, rsp, ss, alignment, landing place, header (at 88)
.type nmi_leaving, @function
nmi_leaving:
    movq $0, 40+48+IST_BUSY(%rsp)       // free
    iretq                               // and NMIs are let in
.type nmi_left, @function
nmi_left:

// abandon_nmi(frame) -> !: the way out of an NMI's handler that will not go on

.globl abandon_nmi_handler
.type abandon_nmi_handler, @function
abandon_nmi_handler:                    // %rdi: the frame of an NMI
    cli                                 // until the iretq
    movq %rdi, %rsp                     // off the stack that we came on,
    movq %gs:CPU_DF_HEADER, %rax        // so that the #DF stack
    movq $0, IST_BUSY(%rax)             // is free
    jmp nmi_return                      // as if the handler had returned

.type nmi_nested, @function
nmi_nested:                             // stack: rip, cs, rflags, rsp, ss, header (at 40)
    incq 40+IST_NESTED(%rsp)            // counted,
    iretq                               // and dropped: back into the first one's handler

// ---- #DB and #MC: from user mode an ordinary exception, from the kernel a handler on the IST stack ------------------

.macro IST_ENTRY name, vector, handler
.balign 16
.globl \name
\name:                                  // stack: rip, cs, rflags, rsp, ss, header (at 40)
    testb $3, 8(%rsp)                   // from user mode?
    jnz 1f                              // yes
    btsq $0, 40+IST_BUSY(%rsp)          // in use? now it is
    jc \name\()_nested                  // it was: do not push
    pushq $0                            // error: none
    pushq $\vector                      // vector
    PUSH_REGISTERS                      // stack: TrapFrame, header (at FRAME_BYTES)
    CLEAN_FLAGS                         // DF and AC
    ENTER_GS FRAME_BYTES                // GS: the per-CPU block
    PUSH_LINK                           // stack: link, TrapFrame
    movq %rsp, %rbp                     // the link is our frame pointer
    leaq LINK_BYTES(%rsp), %rdi         // first argument: the frame
    callq \handler                      // must not sleep, must not switch tasks
    leaq LINK_BYTES(%rbp), %rsp         // stack: TrapFrame
    LEAVE_GS FRAME_BYTES                // GS as it was
    POP_REGISTERS                       // stack: vector, error, rip, cs, rflags, rsp, ss
    addq $16, %rsp                      // stack: rip, cs, rflags, rsp, ss, header (at 40)
    movq $0, 40+IST_BUSY(%rsp)          // free
    iretq                               // back into the kernel

1:  pushq %rax                          // from user mode this stack is not in use: a register may lie here
    movq %rsp, %rax                     // stack: rax, rip, cs, rflags, rsp, ss
    swapgs                              // GS: the per-CPU block
    movq %gs:CPU_KERNEL_STACK, %rsp     // the task's kernel stack, which is empty
    swapgs                              // GS: the user's again, as exception_entry expects
    pushq 40(%rax)                      // ss
    pushq 32(%rax)                      // rsp
    pushq 24(%rax)                      // rflags
    pushq 16(%rax)                      // cs
    pushq 8(%rax)                       // rip
    pushq $0                            // error: none
    pushq $\vector                      // vector
    movq (%rax), %rax                   // the register that was in the way
    jmp exception_entry                 // as if it had come without an IST stack
.endm

IST_ENTRY machine_check_entry, 18, {machine_check}
IST_ENTRY debug_entry, 1, {debug}

// ---- nested: the handler of such a fault has met it again. Nothing more is pushed here; the machine stops in order --
//
// The first CPU to come takes the static last-resort stack. If it comes again, stopping the machine failed too: it says so
// and ends the machine without any stack. Another CPU gives the first one time to do its work, and then does the same.

.macro NESTED name, vector, error       // error: 8 if the hardware pushed an error code, 0 if not
\name:                                  // stack: [error,] rip, cs, rflags, rsp, ss, header
    lock btsl $0, last_resort_taken(%rip)  // the last-resort stack is one for all CPUs
    jc \name\()_again                   // it is taken
    movq %rax, last_resort_rax(%rip)    // a register to work with
    movq \error+40(%rsp), %rax          // the address of the per-CPU block, from the header:
    movq %rax, last_resort_owner(%rip)  // this CPU has the stack
    leaq \error-8(%rsp), %rax           // rax: the hardware's frame, as if below it there were an error code
    leaq {last_resort_stack}+{stack_top}(%rip), %rsp  // the last-resort stack, empty
    pushq 40(%rax)                      // ss
    pushq 32(%rax)                      // rsp
    pushq 24(%rax)                      // rflags
    pushq 16(%rax)                      // cs
    pushq 8(%rax)                       // rip: in the first handler
    .if \error
    pushq (%rax)                        // error
    .else
    pushq $0                            // error: none
    .endif
    pushq $\vector                      // vector
    movq 48(%rax), %rax                 // the address of the per-CPU block, from the header
    xchgq %rax, last_resort_rax(%rip)   // in exchange for the register that was in the way
    jmp last_resort_entry               // the rest is common
\name\()_again:                         // stack: [error,] rip, cs, rflags, rsp, ss, header
    movq \error+40(%rsp), %rax          // who we are
    jmp last_resort_again               // the rest is common; nothing here is come back to
.endm

NESTED double_fault_nested, 8, 8
NESTED machine_check_entry_nested, 18, 0
NESTED debug_entry_nested, 1, 0

.type last_resort_entry, @function
last_resort_entry:                      // stack: vector, error, rip, cs, rflags, rsp, ss
    PUSH_REGISTERS                      // stack: TrapFrame
    CLEAN_FLAGS                         // DF and AC
    movl $GS_BASE_MSR, %ecx             // the base of GS
    movl last_resort_rax(%rip), %eax    // becomes the per-CPU block,
    movl last_resort_rax+4(%rip), %edx  // both halves
    wrmsr                               // for good: nobody returns from here
    PUSH_LINK_OF_FRAME                  // stack: link, TrapFrame
    movq %rsp, %rbp                     // the link is our frame pointer
    leaq LINK_BYTES(%rsp), %rdi         // first argument: the frame
    callq {last_resort}                 // stops the machine
    ud2                                 // if it does not: #UD, on this stack

// ---- the last-resort stack is taken: registers are all that there is ------------------------------------------------

.type last_resort_again, @function
last_resort_again:                      // %rax: this CPU's per-CPU block
    cmpq %rax, last_resort_owner(%rip)  // is it this CPU that has the stack?
    je another_fault                    // yes: stopping the machine failed
    movl $STOPPING_TIME, %ecx           // no: another one does that,
1:  pause                               // and is given time; its NMI, or the machine's end,
    decl %ecx                           // may come
    jnz 1b                              // meanwhile

.type another_fault, @function
another_fault:                          // says so, port by port, and ends the machine
    cli                                 // nothing else happens on this CPU
    leaq last_words(%rip), %rsi         // what is said
1:  movb (%rsi), %bl                    // its next byte
    testb %bl, %bl                      // is there one?
    jz 4f                               // no
    movl $LAST_WORDS_TIME, %ecx         // yes: the port is waited for, not for ever
2:  movw $COM1_STATUS, %dx              // its status:
    inb %dx, %al                        // read,
    testb $COM1_ROOM, %al               // has it room?
    jnz 3f                              // yes
    decl %ecx                           // no:
    jnz 2b                              // look again
3:  movb %bl, %al                       // the byte
    movw $COM1_DATA, %dx                // to the port
    outb %al, %dx                       // it is said
    incq %rsi                           // and the one after it
    jmp 1b                              // likewise
4:  movl $EXIT_PANICKED, %eax           // an orderly panic,
    movw $EXIT_PORT, %dx                // to the device
    outl %eax, %dx                      // that ends the emulator
5:  hlt                                 // where there is none
    jmp 5b                              // and an NMI woke us

.section .rodata.last_words, "a", @progbits
last_words:
    .asciz "Kernel panic: another fault while the machine was being stopped\n"

.section .bss.last_resort, "aw", @nobits
.balign 8
last_resort_rax:
    .skip 8                             // one register, while the last-resort stack is being reached
last_resort_taken:
    .skip 8                             // bit 0: somebody has it
last_resort_owner:
    .skip 8                             // the per-CPU block of who has it
