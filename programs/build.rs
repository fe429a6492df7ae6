//! `nothing` has an entry point of its own.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-link-arg-bin=nothing=-nostartfiles");
}
