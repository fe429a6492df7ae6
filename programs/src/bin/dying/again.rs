//! A task that overflowed overflows again, at every instruction of its end.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicUsize, Ordering::SeqCst};

use vmstack_programs::{raw, spawn, wait};

use super::calls::{PAGE, address, call};
use super::{Control, MOST};

/// What a thread that dies shares with this process: its number, which the kernel clears; a robust futex, and its list.
#[repr(C)]
struct Shared {
    number: AtomicI32,
    next: AtomicPtr<Shared>,
    word: AtomicI32,
    /// First, offset, pending: what `set_robust_list` is told.
    head: [AtomicPtr<Shared>; 3],
}

/// Where it is, once it is mapped.
static SHARED: AtomicPtr<Shared> = AtomicPtr::new(core::ptr::null_mut());
/// In a robust futex's word.
const OWNER_DIED: i32 = 0x4000_0000;

fn shared() -> &'static Shared {
    // SAFETY: mapped for good before anybody asks, and made of atomics.
    unsafe { &*SHARED.load(SeqCst) }
}

pub(crate) fn share() -> io::Result<()> {
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    // SAFETY: new memory.
    let got = unsafe { libc::mmap(core::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if got == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    SHARED.store(got.cast(), SeqCst);
    Ok(())
}

/// A thread with a futex and a number that others look at, which overflows in its next call.
extern "C" fn holder(_: usize) -> i32 {
    let shared = shared();
    let list = (&raw const shared.head).cast_mut().cast::<Shared>();
    shared.head[1].store(core::ptr::without_provenance_mut(core::mem::offset_of!(Shared, word) - NEXT), SeqCst);
    shared.next.store(list, SeqCst);
    shared.head[0].store((&raw const *shared).cast_mut().wrapping_byte_add(NEXT), SeqCst);
    shared.word.store(raw::thread_number(), SeqCst);
    // SAFETY: the head is there for good.
    unsafe { libc::syscall(libc::SYS_set_robust_list, list, size_of::<[usize; 3]>()) };
    i32::from(ARM.load(SeqCst).is_null() || overflow().is_err())
}

/// Where an entry's link is.
const NEXT: usize = core::mem::offset_of!(Shared, next);
/// The two files.
static ARM: AtomicPtr<[Control; 2]> = AtomicPtr::new(core::ptr::null_mut());
/// Behind which instruction the thread overflows again.
static AGAIN: AtomicUsize = AtomicUsize::new(0);

/// Whether it does so twice.
pub(crate) static TWICE: AtomicBool = AtomicBool::new(false);

/// Dies.
fn overflow() -> io::Result<()> {
    // SAFETY: the child that this is set it, and waits.
    let [nth, again] = unsafe { &*ARM.load(SeqCst) };
    again.set(AGAIN.load(SeqCst))?;
    if TWICE.load(SeqCst) {
        again.set(AGAIN.load(SeqCst))?;
    }
    nth.set(1)?;
    call(libc::SYS_getpid, [0; 4]).map(|_| ())
}

/// One child that dies, and again `number` instructions later. Whether its thread's number was cleared and its futex marked.
fn die_again(of_two: bool, number: usize) -> io::Result<(bool, bool)> {
    let shared = shared();
    shared.number.store(1, SeqCst);
    let child = spawn(|| {
        let files = Control::open("overflow-nth").and_then(|nth| Ok([nth, Control::open("overflow-again")?]));
        let Ok(mut files) = files else { return 1 };
        ARM.store(&raw mut files, SeqCst);
        AGAIN.store(number, SeqCst);
        if !of_two {
            return holder(0);
        }
        let flags = raw::OF_THREAD | libc::CLONE_CHILD_CLEARTID as u64;
        // SAFETY: the thread makes system calls, and the words are there for good.
        let thread = unsafe {
            raw::clone(flags, raw::Stack::spare(0), core::ptr::null_mut(), shared.number.as_ptr(), holder, 0)
        };
        while thread.is_ok() {
            call(libc::SYS_futex, [address(&shared.number), libc::FUTEX_WAIT as usize, 1, 0]).ok();
        }
        1
    })?;
    match wait(child)?.status {
        libc::SIGSEGV => Ok((shared.number.load(SeqCst) == 0, shared.word.load(SeqCst) & OWNER_DIED != 0)),
        status => Err(io::Error::other(format!("again {number}: the child's status is {status:#x}"))),
    }
}

/// Who dies: of a process of two threads, and three times instead of two.
pub(crate) const ENDS: [(&str, bool, bool); 4] =
    [("again", false, false), ("again_of_two", true, false), ("third", false, true), ("third_of_two", true, true)];

/// Every `stride`th instruction of the end of a process of one thread, or of two.
pub(crate) fn each_end(name: &str, of_two: bool, stride: usize) -> io::Result<()> {
    let (again, reports) = (Control::open("overflow-again")?, Control::open("overflow-room")?);
    let (mut overflows, mut numbers, mut futexes, mut next, mut last) = (0, 0, 0, 1, 0);
    while next < MOST {
        let before = reports.count()?;
        let (cleared, marked) = die_again(of_two, next)?;
        let died = reports.count()? - before;
        overflows += died;
        if died == 1 {
            println!("fact dying.again {name} {last} {overflows} {numbers} {futexes}");
            return Ok(());
        }
        numbers += usize::from(of_two && !cleared);
        futexes += usize::from(!marked);
        // It may have waited for the end of a section.
        last = again.count()?.max(next);
        next = last + stride;
    }
    Err(io::Error::other(format!("{name}: more than {MOST}")))
}
