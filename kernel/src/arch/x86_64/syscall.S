// System calls: SYSCALL in, SYSRET out where that is safe, IRET where it is not.
//
// SYSCALL saves rip in rcx and rflags in r11, clears the flags in SFMASK (IF, DF, TF, AC, NT among them), and leaves
// rsp to us.

.section .text.entry, "ax", @progbits
.balign 16
.globl syscall_entry
.type syscall_entry, @function
syscall_entry:                          // interrupts are off; rsp and GS are the user's
    swapgs                              // GS: the per-CPU block
    movq %rsp, %gs:CPU_USER_RSP         // keep the user's stack pointer,
    movq %gs:CPU_KERNEL_STACK, %rsp     // stand on the task's kernel stack, which is empty
    pushq $USER_DATA                    // ss: what SYSRET would load
    pushq %gs:CPU_USER_RSP              // rsp
    pushq %r11                          // rflags
    pushq $USER_CODE                    // cs: what SYSRET would load
    pushq %rcx                          // rip
    pushq $0                            // error: none
    pushq $SYSCALL_VECTOR               // vector: none of the hardware's
    PUSH_REGISTERS                      // stack: TrapFrame
    PUSH_LINK_END                       // stack: link, TrapFrame; the chain of frame pointers ends here
    movq %rsp, %rbp                     // the link is our frame pointer
    leaq LINK_BYTES(%rsp), %rdi         // first argument: the frame
    callq {system_call}                 // may sleep, may not return, may turn interrupts on
    cli                                 // off again, until user mode
    cmpl $0, %gs:CPU_FLAGS              // has the task anything to do before?
    je 1f                               // no
    leaq LINK_BYTES(%rbp), %rdi         // first argument: the frame
    callq {before_return}               // may switch tasks; comes back with interrupts off
1:  addq $LINK_BYTES, %rsp              // stack: TrapFrame

    cmpq $USER_CODE, FRAME_CS(%rsp)     // SYSRET loads these two selectors and no others:
    jne return_slowly                   //   another one was asked for
    cmpq $USER_DATA, FRAME_SS(%rsp)     //   the same
    jne return_slowly                   //   for the stack
    movq FRAME_RIP(%rsp), %rcx          // SYSRET takes rip from rcx:
    cmpq %rcx, FRAME_RCX(%rsp)          //   does the frame want the same in both?
    jne return_slowly                   //   no
    movq %rcx, %rax                     //   yes;
    shrq $47, %rax                      //   is it a user address?
    jnz return_slowly                   //   no: SYSRET could fault in the kernel on the user's stack pointer
    movq FRAME_RFLAGS(%rsp), %r11       // and rflags from r11:
    cmpq %r11, FRAME_R11(%rsp)          //   does the frame want the same in both?
    jne return_slowly                   //   no
    testq $RFLAGS_STRANGE, %r11         //   flags that it may not have, or that SYSRET loses, or acts upon too early?
    jnz return_slowly                   //   yes
    testl $RFLAGS_IF, %r11d             //   interrupts on?
    jz return_slowly                    //   no

    POP_REGISTERS                       // stack: vector, error, rip, cs, rflags, rsp, ss; rcx and r11 as just checked
    movq 40(%rsp), %rsp                 // the user's stack pointer; interrupts are off, and NMI has a stack of its own
    swapgs                              // GS is the user's
    sysretq                             // rip from rcx, rflags from r11

.type return_slowly, @function
return_slowly:                          // stack: TrapFrame, which may ask for anything
    movq %rsp, %rdi                     // first argument: the frame
    callq {returnable}                  // now it asks for user mode; interrupts are off
    jmp return_to_user                  // by IRET
