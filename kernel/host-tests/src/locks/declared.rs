//! Every lock of the kernel is in its table, `sync/declared.rs`, and the table has no others.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const CONSTRUCTORS: [&str; 5] = ["SpinLock::new(", "Mutex::new(", "RwLock::new(", "VitalLock::new(", "RawLock::new("];
/// A section without a lock, which the table lists among the vital ones.
const WITHOUT_CONSTRUCTOR: &str = "page-tables";

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the kernel's sources are beside this package") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The string that `text` begins with, white space apart.
fn literal(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

/// Whether a file is one that makes locks of a name that it is given.
fn wraps(path: &Path) -> bool {
    let wrapper = ["spin.rs", "mutex.rs", "rwlock.rs", "vital.rs", "raw.rs"];
    path.parent().is_some_and(|folder| folder.ends_with("sync")) && wrapper.iter().any(|name| path.ends_with(name))
}

fn constructed() -> BTreeSet<String> {
    let mut files = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../src"), &mut files);
    let mut names = BTreeSet::new();
    for path in files.iter().filter(|path| !wraps(path)) {
        let text = fs::read_to_string(path).expect("a source is text");
        for after in CONSTRUCTORS.iter().flat_map(|constructor| text.split(constructor).skip(1)) {
            let name = literal(after).unwrap_or_else(|| panic!("{}: a lock without a name", path.display()));
            assert!(names.insert(name.to_owned()), "{}: two locks are called {name}", path.display());
        }
    }
    names
}

fn listed() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../src/sync/declared.rs");
    let text = fs::read_to_string(path).expect("the table is there");
    let table =
        text.split("static ALL").nth(1).and_then(|rest| rest.split("];").next()).expect("the table is called ALL");
    let entries = ["at(", "of_process(", "of_memory("].into_iter().flat_map(|entry| table.split(entry).skip(1));
    entries.filter_map(literal).map(str::to_owned).collect()
}

#[test]
fn every_lock_is_in_the_table_and_nothing_else_is() {
    let mut constructed = constructed();
    assert!(constructed.len() > 5, "{constructed:?}");
    constructed.insert(WITHOUT_CONSTRUCTOR.to_owned());
    assert_eq!(constructed, listed());
}
