// The way of every other CPU from reset to Rust. A STARTUP message puts it in real mode at the first byte of a page
// below 1 MiB, where smp.rs has copied the bytes between trampoline_start and trampoline_end. They run wherever they
// are, once:
//
//     real mode, CS:0 = the page         its segment gives the page's address; three pointers are computed from it
//     protected mode, flat               boot page tables, which map the page and the kernel's image
//     long mode, in the page             one jump
//     long mode, in the image (ap_high)  is this CPU the one that is waited for? then its page tables, its stack, Rust
//
// Names in braces are filled in by smp.rs.

.set KERNEL_BASE, 0xffffffff80000000    // where physical address 0 is seen by the kernel's own code

.section .rodata.trampoline, "a", @progbits
.balign 16
.globl trampoline_start
trampoline_start:
.code16
    cli                                 // no interrupt table yet
    cld                                 // the ABI of Rust wants DF clear
    movw %cs, %ax                       // the page's segment
    movw %ax, %ds                       // is that of its data too
    movzwl %ax, %ebx                    // the page's address:
    shll $4, %ebx                       // the segment times 16
    leal trampoline_gdt - trampoline_start(%ebx), %eax  // where the descriptors are,
    movl %eax, trampoline_gdt_base - trampoline_start   // for lgdt
    leal trampoline_32 - trampoline_start(%ebx), %eax   // where the 32-bit part is,
    movl %eax, trampoline_to_32 - trampoline_start      // for the far jump
    leal trampoline_64 - trampoline_start(%ebx), %eax   // where the 64-bit part is,
    movl %eax, trampoline_to_64 - trampoline_start      // for the next one
    lgdtl trampoline_gdt_limit - trampoline_start       // flat descriptors
    movl %cr0, %eax                     // CR0:
    orl $1, %eax                        //   PE
    movl %eax, %cr0                     //   protected mode
    ljmpl *(trampoline_to_32 - trampoline_start)        // with a 32-bit code segment

.code32
trampoline_32:
    movw $0x18, %ax                     // the flat data segment
    movw %ax, %ds                       // for data,
    movw %ax, %ss                       // and for a stack, which is not used here
    movl %cr4, %eax                     // CR4:
    orl $0x20, %eax                     //   PAE
    movl %eax, %cr4                     //   set
    movl $boot_pml4 - KERNEL_BASE, %eax // the boot tables: they map this page one to one, whatever the kernel's do
    movl %eax, %cr3                     // ready for use
    movl $0xc0000080, %ecx              // EFER:
    rdmsr                               //   read into %edx:%eax
    orl $0x100, %eax                    //   LME
    wrmsr                               //   written
    movl %cr0, %eax                     // CR0:
    andl $0x9fffffff, %eax              //   caches on: CD and NW are set after reset
    orl $0x80010001, %eax               //   PG, WP, PE
    movl %eax, %cr0                     //   compatibility mode
    ljmpl *(trampoline_to_64 - trampoline_start)(%ebx)  // with a 64-bit code segment

.code64
trampoline_64:
    movabsq $ap_high, %rax              // in the image,
    jmpq *%rax                          // away from this page

.balign 8
trampoline_gdt:
    .quad 0                             // the null descriptor
    .quad 0x00cf9b000000ffff            // 0x08: 32-bit code
    .quad 0x00af9b000000ffff            // 0x10: 64-bit code
    .quad 0x00cf93000000ffff            // 0x18: data
trampoline_gdt_limit:
    .word 31                            // limit: four descriptors
trampoline_gdt_base:
    .long 0                             // base, computed above
trampoline_to_32:
    .long 0                             // offset, computed above
    .word 0x08                          // selector
trampoline_to_64:
    .long 0                             // offset, computed above
    .word 0x10                          // selector
.globl trampoline_end
trampoline_end:

.section .text.boot, "ax", @progbits
.code64
ap_high:                                // no stack yet; NMIs would be fatal until Rust has loaded the tables
    movl $1, %eax                       // CPUID leaf 1
    cpuid                               // has the APIC id that the CPU was born with
    shrl $24, %ebx                      // in the top 8 bits of ebx
    movl %ebx, %eax                     // is it the one that is waited for?
    movl ${claimed}, %ecx               // then this replaces it,
    lock cmpxchgl %ecx, {mailbox}+{awaited}(%rip)  // and nobody else takes what is in the mailbox
    jne ap_park                         // no: too late, or never asked for
    movl $0xc0000080, %ecx              // EFER:
    rdmsr                               //   read
    orl {mailbox}+{efer}(%rip), %eax    //   NXE if the boot CPU has it: the page tables below use it
    wrmsr                               //   written
    movq {mailbox}+{root}(%rip), %rax   // the kernel's page tables,
    movq %rax, %cr3                     // in place of the boot tables
    movq {mailbox}+{stack}(%rip), %rsp  // the stack that was made for this CPU
    movq {mailbox}+{cpu}(%rip), %rdi    // first argument: its number
    xorl %ebp, %ebp                     // the frame-pointer chain ends here
    callq {ap_start}                    // stack: [return address]; does not return
ap_park:
    cli                                 // for ever:
    hlt                                 // nobody waits for this CPU any more
    jmp ap_park                         // NMI and SMI wake it
