//! Layers of block devices over a file of the archive, for there is no disk under `run --program`.

use std::process::Output;

use libtest_mimic::Failed;

use super::{expect, program, run};

/// What makes no sense, and the error that Linux calls so.
const REFUSED: [(&str, i32); 14] = [
    ("/disk/disk", libc::ENODEV),
    ("/disk/linear", libc::ENODEV),
    ("/disk/file=nothing", libc::ENODEV),
    ("/disk/lineal.file=symbols", libc::EINVAL),
    ("/disk/linear(file=symbols", libc::EINVAL),
    ("/disk/crypt=00.file=symbols", libc::EINVAL),
    ("/disk/linear@x.file=symbols", libc::EINVAL),
    ("/disk/linear@99999999.file=symbols", libc::ERANGE),
    ("/disk/linear*2048.file=symbols", libc::E2BIG),
    ("/disk/linear(linear(linear(linear(linear(file=symbols)))))", libc::E2BIG),
    // Read, and no file system.
    ("/disk/file=symbols/file", libc::EINVAL),
    // Nothing can be read.
    ("/disk/fail/file", libc::EIO),
    ("/disk/compare(file=symbols,linear@1.file=symbols)", libc::EIO),
    ("/disk/", libc::EISDIR),
];

/// The facts of a run of the program with these paths, by their names: path and the rest.
fn said(output: &Output, name: &str) -> Vec<(String, String)> {
    let start = format!("fact storage.{name} ");
    let text = String::from_utf8_lossy(&output.stdout);
    let lines = text.lines().filter_map(|line| line.strip_prefix(&start)?.split_once(' '));
    lines.map(|(path, rest)| (path.to_owned(), rest.to_owned())).collect()
}

fn read(paths: &[&str]) -> Result<Output, Failed> {
    let storage = program("storage");
    run(&[&["run", "--program", &storage], paths].concat())
}

pub(super) fn layers_are_read_and_what_makes_no_sense_is_refused() -> Result<(), Failed> {
    let key = "5a".repeat(32);
    let paths = [
        "/disk/file=symbols",
        "/disk/linear*30.mirror*3.file=symbols",
        "/disk/compare(linear.file=symbols,mirror(fail,file=symbols))",
        &format!("/disk/crypt={key}.file=symbols"),
        &format!("/disk/linear*9.crypt={key}.linear.file=symbols"),
    ];
    let output = read(&paths)?;
    let files: Vec<String> = said(&output, "file").into_iter().map(|(_, what)| what).collect();
    let same = |files: &[String]| files.windows(2).all(|pair| pair[0] == pair[1]);
    let right = files.len() == paths.len() && same(&files[..3]) && same(&files[3..]) && files[2] != files[3];
    expect(output.status.code() == Some(0) && right, &output)?;
    let long = format!("/disk/{}disk", "linear.".repeat(36));
    let refused: Vec<(&str, i32)> = REFUSED.into_iter().chain([(long.as_str(), libc::ENAMETOOLONG)]).collect();
    let output = read(&refused.iter().map(|(path, _)| *path).collect::<Vec<_>>())?;
    let expected: Vec<(String, String)> =
        refused.iter().map(|(path, error)| ((*path).to_owned(), error.to_string())).collect();
    expect(output.status.code() == Some(1) && said(&output, "refused") == expected, &output)
}
