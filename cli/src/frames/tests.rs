//! Frames of small functions, assembled by hand; and what the gate says of them.

#[test]
fn dump() {
    let image = super::Image::read(std::path::Path::new(&std::env::var("KERNEL").unwrap())).unwrap();
    let mut frames = image.frames.clone();
    frames.sort_by_key(|f| core::cmp::Reverse(f.walked.size));
    for f in frames.iter() {
        eprintln!("{:6} {:x?} {:x?} {}", f.walked.size, f.walked.unprobed_at, f.walked.unsized_at, f.name);
    }
    for f in frames.iter().filter(|f| f.walked.unsized_at.is_some()) {
        eprintln!("UNSIZED {:x?} {}", f.walked.unsized_at, f.name);
    }
    for c in image.checks() {
        eprintln!("{c:?}");
    }
}
