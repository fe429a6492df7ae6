// What the entries share: the layout of a frame, and how registers are pushed and popped. A name in braces is filled in
// by trap.rs.

// ---- offsets in a TrapFrame, and in the per-CPU block ---------------------------------------------------------------

.set FRAME_R11,     {frame_r11}         // where the pushes below put each register
.set FRAME_RBP,     {frame_rbp}
.set FRAME_RCX,     {frame_rcx}
.set FRAME_RIP,     {frame_rip}
.set FRAME_CS,      {frame_cs}
.set FRAME_RFLAGS,  {frame_rflags}
.set FRAME_SS,      {frame_ss}
.set FRAME_BYTES,   {frame_bytes}       // 22 words
.set LINK_BYTES,    {link_bytes}        // the link under a frame: saved rbp, saved rip

.set CPU_KERNEL_STACK, {kernel_stack}   // in the per-CPU block
.set CPU_USER_RSP,     {user_rsp}
.set CPU_IRQ_STACK,    {irq_stack}
.set CPU_IRQ_LINK,     {irq_link}
.set CPU_IRQ_DEPTH,    {irq_depth}
.set CPU_DF_HEADER,    {df_header}
.set CPU_FLAGS,        {flags}
.set NEED_RESCHED,     {need_resched}  // in the flags

.set IST_BUSY,      {ist_busy}          // in the header of an IST stack, from where the TSS points
.set IST_GS_BASE,   {ist_gs_base}
.set IST_NESTED,    {ist_nested}

.set USER_CODE,     {user_code}         // selectors, with their privilege level
.set USER_DATA,     {user_data}
.set SYSCALL_VECTOR, {syscall_vector}
.set GS_BASE_MSR,   {gs_base_msr}

.set COM1_DATA,     {com1}              // ports, for when there is no stack left to call Rust on
.set COM1_STATUS,   {com1}+5
.set COM1_ROOM,     0x20                // in the status: it takes another byte
.set EXIT_PORT,     {exit_port}
.set EXIT_PANICKED, 17
.set STOPPING_TIME, 10000000            // turns: what another CPU has to stop the machine, seconds
.set LAST_WORDS_TIME, 1000000           // looks at the status, for each byte

.set RFLAGS_TF,     0x100               // single step
.set RFLAGS_RF,     0x10000             // resume: SYSRET loses it
.set RFLAGS_IF,     0x200               // interrupts on
.set RFLAGS_STRANGE, {rflags_strange}   // what user mode may not have, or SYSRET loses or acts upon too early

// ---- registers ------------------------------------------------------------------------------------------------------

.macro PUSH_REGISTERS                   // stack before: vector, error, rip, cs, ...; after: a whole TrapFrame at %rsp
    pushq %rax                          // the order is that of the fields of TrapFrame,
    pushq %rbx                          // the last one first
    pushq %rcx
    pushq %rdx
    pushq %rsi
    pushq %rdi
    pushq %rbp
    pushq %r8
    pushq %r9
    pushq %r10
    pushq %r11
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
.endm

.macro POP_REGISTERS                    // stack before: a whole TrapFrame at %rsp; after: vector, error, rip, cs, ...
    popq %r15                           // the way back
    popq %r14
    popq %r13
    popq %r12
    popq %r11
    popq %r10
    popq %r9
    popq %r8
    popq %rbp
    popq %rdi
    popq %rsi
    popq %rdx
    popq %rcx
    popq %rbx
    popq %rax
.endm

.macro CLEAN_FLAGS                      // whatever the interrupted code had set
    cld                                 // the ABI of Rust wants DF clear
    cmpb $0, {smap}(%rip)               // has this machine SMAP, and with it the instruction?
    je 771f                             // no: there is nothing to protect
    clac                                // yes: AC clear, the kernel does not touch user memory by accident
771:
.endm

.macro PUSH_LINK                        // under the frame at %rsp: the frame-pointer link to the interrupted function
    pushq FRAME_RIP(%rsp)               // as if it had called us: the return address,
    pushq FRAME_RBP+8(%rsp)             // and its frame pointer
.endm

.macro PUSH_LINK_END                    // under the frame at %rsp: the end of the chain
    pushq $0                            // no return address
    pushq $0                            // no frame pointer
.endm
