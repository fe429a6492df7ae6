//! Files that are no programs, and what `execve` says of them.

use std::ffi::{CString, OsStr, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use vmstack_programs::{spawn, wait};

/// How the names of files begin that are executed.
const DAMAGED: &[u8] = b"damaged-";

/// What a child's status says when `execve` failed: this much more than the error. Programs that were executed know nothing of it.
const FAILED: i32 = 100;

/// Executes each damaged file of `folder` and what lies nowhere, and prints what came of it.
pub(crate) fn try_all(folder: &Path) -> io::Result<bool> {
    let mut files: Vec<_> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.file_name().is_some_and(|name| name.as_bytes().starts_with(DAMAGED)));
    files.sort();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        println!("fact hostile.executed {name} {}", execute(file.as_os_str(), &[])?);
    }
    let own = std::env::current_exe()?;
    let below = own.join("below");
    let places = [
        ("folder", folder),
        ("missing", Path::new("/missing")),
        ("below-a-file", &below),
        ("empty-path", Path::new("")),
    ];
    for (name, path) in places {
        println!("fact hostile.executed {name} {}", execute(path.as_os_str(), &[])?);
    }
    for (name, count, length) in LISTS {
        let word = CString::new("x".repeat(length)).map_err(io::Error::other)?;
        println!("fact hostile.executed {name} {}", execute(own.as_os_str(), &vec![word.as_ptr(); count])?);
    }
    Ok(true)
}

/// Lists of arguments: how many, and how long each is in bytes. The kernel takes 2 MiB in all, of a stack of 8, and 128 KiB of one.
const LISTS: [(&str, usize, usize); 6] = [
    ("one-as-long-as-can-be", 1, (128 << 10) - 1),
    ("one-too-long", 1, 128 << 10),
    ("many-that-fit", 15, 128_000),
    ("many-that-do-not", 17, 128_000),
    ("short-ones-that-fit", 100_000, 8),
    ("short-ones-that-do-not", 140_000, 8),
];

/// Executes `path` in a child, which says nothing, and returns the error; or `ran`; or `killed`, which a damaged program may be, by the kernel
/// that starts it or by its own doing.
fn execute(path: &OsStr, arguments: &[*const c_char]) -> io::Result<String> {
    let path = CString::new(path.as_bytes()).map_err(io::Error::other)?;
    let list: Vec<_> =
        [path.as_ptr()].into_iter().chain(arguments.iter().copied()).chain([core::ptr::null()]).collect();
    let child = spawn(|| {
        crate::words::open_files();
        // A program that is damaged, but not so that it is seen, may run for ever.
        // SAFETY: no memory is involved.
        unsafe { libc::alarm(1) };
        // SAFETY: a string, a list that ends with a null pointer, and no environment.
        unsafe { libc::execve(path.as_ptr(), list.as_ptr(), core::ptr::null()) };
        FAILED + io::Error::last_os_error().raw_os_error().unwrap_or(0)
    })?;
    let status = wait(child)?.status;
    let failed = libc::WIFEXITED(status) && libc::WEXITSTATUS(status) > FAILED;
    Ok(match (failed, libc::WIFEXITED(status)) {
        (true, _) => (libc::WEXITSTATUS(status) - FAILED).to_string(),
        (false, true) => "ran".into(),
        (false, false) => "killed".into(),
    })
}
