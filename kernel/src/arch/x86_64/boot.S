// The way from the PVH entry to Rust, and the page tables that the kernel boots on.
//
// PVH ("direct boot" of the Xen project's x86 boot ABI) enters in 32-bit protected mode: flat segments, paging off,
// interrupts off, %ebx = physical address of hvm_start_info, no stack. All addresses are physical until paging is on,
// so a symbol is written (symbol - KERNEL_BASE) up to the jump to the high half.
//
// A name in braces is filled in by boot.rs.

.set KERNEL_BASE,   0xffffffff80000000  // where physical address 0 is seen by the kernel's own code
.set PAGE_TABLE,    0x003               // present, writable: an entry that points to the next table
.set PAGE_2M,       0x083               // present, writable, 2 MiB page; not global: the final tables must replace it
.set DEVICE_2M,     0x09b               // the same, write-through and uncached: memory-mapped devices

// ---- the note by which a loader finds the 32-bit entry --------------------------------------------------------------

.section .note.pvh, "a", @note
.balign 4                               // notes are made of 4-byte words
    .long 4                             // length of the name
    .long 4                             // length of the descriptor
    .long 18                            // XEN_ELFNOTE_PHYS32_ENTRY
    .asciz "Xen"                        // the name, 4 bytes with its zero
    .long pvh_start - KERNEL_BASE       // the descriptor: physical address of the entry

// ---- the boot page tables, written by the assembler -----------------------------------------------------------------
//
//     0x0000_0000_0000_0000  the first 4 GiB, identity     until the jump below; again for each AP's trampoline
//     0xffff_8000_0000_0000  the first 4 GiB, direct map
//     0xffff_ffff_8000_0000  the first 1 GiB, the kernel's image
//
// 0xfec00000 to 0xfeffffff (IOAPIC, local APIC) is uncached.

.section .data.pages, "aw", @progbits
.balign 4096
.globl boot_pml4
boot_pml4:
    .quad boot_pdpt_low - KERNEL_BASE + PAGE_TABLE   // 0: identity
    .fill 255, 8, 0                                  // 1 to 255: user space, empty
    .quad boot_pdpt_low - KERNEL_BASE + PAGE_TABLE   // 256: direct map
    .fill 254, 8, 0                                  // 257 to 510
    .quad boot_pdpt_high - KERNEL_BASE + PAGE_TABLE  // 511: kernel image

boot_pdpt_low:
    .quad boot_pd - KERNEL_BASE + PAGE_TABLE           // GiB 0
    .quad boot_pd - KERNEL_BASE + PAGE_TABLE + 0x1000  // GiB 1
    .quad boot_pd - KERNEL_BASE + PAGE_TABLE + 0x2000  // GiB 2
    .quad boot_pd - KERNEL_BASE + PAGE_TABLE + 0x3000  // GiB 3
    .fill 508, 8, 0                                    // no more than 4 GiB while booting

boot_pdpt_high:
    .fill 510, 8, 0                                  // 0 to 509
    .quad boot_pd - KERNEL_BASE + PAGE_TABLE         // 510: GiB 0 once more
    .quad 0                                          // 511

boot_pd:
.set ADDRESS, 0
.rept 2048                                           // 4 GiB in pages of 2 MiB
    .if ADDRESS >= 0xfec00000 && ADDRESS < 0xff000000
    .quad ADDRESS + DEVICE_2M                        // a page of devices
    .else
    .quad ADDRESS + PAGE_2M                          // a page of memory, or a hole
    .endif
    .set ADDRESS, ADDRESS + 0x200000
.endr

// ---- the descriptor table for the step into long mode; Rust loads the per-CPU one soon after ------------------------

.section .rodata.boot, "a", @progbits
.balign 16
boot_gdt:
    .quad 0                             // the null descriptor
    .quad 0x00af9b000000ffff            // 0x08: 64-bit code, ring 0
    .quad 0x00cf93000000ffff            // 0x10: data, ring 0
boot_gdt_pointer:
    .word boot_gdt_pointer - boot_gdt - 1  // limit
    .long boot_gdt - KERNEL_BASE           // physical base, 32 bits, as 32-bit lgdt reads it

// ---- 32-bit entry ---------------------------------------------------------------------------------------------------

.section .text.boot, "ax", @progbits
.code32
.globl pvh_start
pvh_start:
    cli                                 // PVH says interrupts are off; say it again
    cld                                 // the ABI of Rust wants DF clear
    movl %ebx, %ebp                     // keep start_info: nothing below uses %ebp

    movl $__bss_start - KERNEL_BASE, %edi  // clear .bss: a loader may have left rubbish there
    movl $__bss_end - KERNEL_BASE, %ecx    // its end
    subl %edi, %ecx                     // its length in bytes,
    shrl $2, %ecx                       // in words of 4 bytes (both ends are page-aligned)
    xorl %eax, %eax                     // with zero
    rep stosl                           // no stack is in use yet, so none is overwritten

    movl %cr4, %eax                     // CR4:
    orl $0x20, %eax                     //   PAE (bit 5), without which there is no long mode
    movl %eax, %cr4                     //   set
    movl $boot_pml4 - KERNEL_BASE, %eax // the boot tables,
    movl %eax, %cr3                     // which are not used before paging is on
    movl $0xc0000080, %ecx              // EFER:
    rdmsr                               //   read into %edx:%eax
    orl $0x100, %eax                    //   LME (bit 8): long mode when paging comes on
    wrmsr                               //   written
    movl %cr0, %eax                     // CR0:
    orl $0x80010001, %eax               //   PG (31), WP (16), PE (0)
    movl %eax, %cr0                     //   paging is on, at the identity addresses: compatibility mode
    lgdtl boot_gdt_pointer - KERNEL_BASE   // a table with a 64-bit code segment
    ljmpl $0x08, $long_mode - KERNEL_BASE  // and into it

.code64
long_mode:
    movabsq $high_half, %rax            // the same code at its linked address
    jmpq *%rax                          // leaves the identity map for good
high_half:
    movl $0x10, %eax                    // the data segment
    movl %eax, %ss                      // for the stack,
    movl %eax, %ds                      // and for the segments
    movl %eax, %es                      // that long mode
    xorl %eax, %eax                     // ignores: the null selector
    movl %eax, %fs                      // for these two, whose bases
    movl %eax, %gs                      // are set through MSRs
    leaq {boot_stack}+{boot_stack_top}(%rip), %rsp  // the boot stack's end, aligned to 16 bytes
    movl %ebp, %edi                     // first argument: physical address of start_info, zero-extended
    xorl %ebp, %ebp                     // the frame-pointer chain ends here
    callq {kernel_main}                 // stack: [return address]; does not return
    ud2                                 // if it does
