//! The archive of the boot, and the tree that it becomes: right ones, odd ones, and rubbish.

use std::sync::{Mutex, PoisonError};

use crate::memory::Random;

#[path = "../../../src/fs/archive.rs"]
#[expect(dead_code, reason = "the kernel uses the rest")]
mod archive;
#[path = "../../../src/fs/mode.rs"]
#[expect(dead_code, reason = "the kernel uses the rest")]
mod mode;
#[path = "../../../src/fs/tree.rs"]
#[expect(dead_code, reason = "the kernel uses the rest")]
mod tree;

mod superblocks;

use archive::Archive;

/// The tree is one of the boot: one test at a time has it.
static ONE: Mutex<()> = Mutex::new(());

const FILE: u32 = 0o100_755;
const FOLDER: u32 = 0o040_700;
const LINK: u32 = 0o120_777;

fn archive(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let end = ("TRAILER!!!", 0, &[][..]);
    for (name, mode, data) in entries.iter().chain([&end]) {
        let fields = [1, *mode as usize, 0, 0, 1, 7, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        bytes.extend(b"070701");
        fields.iter().for_each(|field| bytes.extend(format!("{field:08x}").bytes()));
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(*data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

/// Makes `bytes` the boot's archive, and gives what `find` finds in the tree.
fn with_tree<T>(bytes: Vec<u8>, find: impl FnOnce() -> T) -> T {
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    tree::init(Archive::new(bytes.leak())).unwrap();
    find()
}

/// The node at `path`.
fn at(path: &str) -> Option<&'static tree::TreeNode> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    tree::node(parts.try_fold(tree::ROOT, |at, part| tree::child(at, part.as_bytes()))?)
}

fn names(path: &str) -> Vec<&'static [u8]> {
    let number = path
        .split('/')
        .filter(|part| !part.is_empty())
        .try_fold(tree::ROOT, |at, part| tree::child(at, part.as_bytes()));
    tree::children(number.unwrap()).map(|child| tree::node(child).unwrap().name).collect()
}

#[test]
fn folders_that_only_paths_speak_of_are_there() {
    let bytes =
        archive(&[("bin/a", FILE, b"A"), ("bin/b", FILE, b"B"), ("./usr/lib/c", FILE, b"C"), ("sh", LINK, b"bin/a")]);
    with_tree(bytes, || {
        assert_eq!(names("/"), [b"bin".as_slice(), b"usr", b"sh"]);
        assert_eq!(names("/bin"), [b"a".as_slice(), b"b"]);
        assert_eq!((at("/usr/lib/c").unwrap().data, at("/usr").unwrap().folders), (&b"C"[..], 1));
        assert!(mode::is_folder(at("/usr/lib").unwrap().mode) && mode::is_link(at("/sh").unwrap().mode));
    });
}

#[test]
fn a_folder_has_the_permissions_that_its_entry_says_wherever_it_stands() {
    with_tree(archive(&[("a/x", FILE, b""), ("a", FOLDER, b""), ("b", FOLDER, b""), ("b/x", FILE, b"")]), || {
        assert_eq!((at("/a").unwrap().mode, at("/b").unwrap().mode), (FOLDER, FOLDER));
        assert!(at("/a/x").is_some() && at("/b/x").is_some());
    });
}

#[test]
fn what_cannot_be_in_the_tree_is_left_out() {
    let bytes = archive(&[
        ("f", FILE, b"1"),
        ("f/x", FILE, b"2"),
        ("f", FILE, b"3"),
        ("../up", FILE, b""),
        ("d/../e", FILE, b""),
        ("", FILE, b""),
    ]);
    with_tree(bytes, || {
        assert_eq!((at("/f").unwrap().data, at("/f/x").is_none(), at("/up").is_none()), (&b"1"[..], true, true));
        assert!(at("/e").is_none());
    });
}

#[test]
fn rubbish_and_cut_archives_are_walked_to_where_they_are_whole() {
    let whole = archive(&[("bin/a", FILE, &[7; 99]), ("bin/b", LINK, b"a"), ("c", FOLDER, b"")]);
    let whole: &'static [u8] = whole.leak();
    for length in 0..whole.len() {
        assert!(Archive::new(&whole[..length]).entries().count() <= 3);
    }
    let mut random = Random(4);
    for _ in 0..2000 {
        let mut bytes = whole.to_vec();
        for _ in 0..1 + random.next() % 4 {
            let at = random.next() as usize % bytes.len();
            bytes[at] = random.next() as u8;
        }
        with_tree(bytes, || {
            assert!(tree::children(tree::ROOT).count() <= 4);
        });
    }
}
