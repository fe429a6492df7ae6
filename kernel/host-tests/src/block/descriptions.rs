//! Descriptions: good ones, bad ones, and rubbish.

use super::kernel::description::{Bad, MOST_LAYERS, Why};
use super::{Machine, SECTORS, description};
use crate::memory::Random;

fn layers(text: &str) -> Result<usize, Bad> {
    Machine::new(u64::MAX).build(text).map(|layers| layers.count())
}

#[test]
fn layers_are_counted_with_what_is_below() {
    for (text, count) in [
        ("disk", 1),
        ("linear", 2),
        ("linear*12.mirror", 14),
        ("linear*0.disk", 1),
        ("mirror(disk,linear.mirror(file=a,fail))", 6),
        ("linear(linear*3.linear(disk,disk),fail)", 8),
    ] {
        assert_eq!(layers(text), Ok(count), "{text}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let zeros = |count: usize| "0".repeat(count);
    for (text, at, why) in [
        ("lineal".to_owned(), 0, Why::Name),
        ("linear.lineal".to_owned(), 7, Why::Name),
        ("linear linear".to_owned(), 6, Why::Word),
        ("disk.linear".to_owned(), 4, Why::Word),
        ("mirror(disk).linear".to_owned(), 12, Why::Word),
        ("linear@".to_owned(), 7, Why::Number),
        ("linear@x".to_owned(), 7, Why::Number),
        ("linear@-1".to_owned(), 7, Why::Number),
        ("linear*".to_owned(), 7, Why::Number),
        ("linear@18446744073709551616".to_owned(), 7, Why::Number),
        ("linear@18446744073709551615".to_owned(), 0, Why::Outside),
        ("linear.linear@1000+1".to_owned(), 7, Why::Outside),
        (format!("linear@{}", SECTORS + 1), 0, Why::Outside),
        ("linear@1+18446744073709551615".to_owned(), 0, Why::Outside),
        ("linear@1*1001".to_owned(), 0, Why::Outside),
        (String::new(), 0, Why::Name),
        ("linear.".to_owned(), 7, Why::Name),
        ("mirror(disk".to_owned(), 11, Why::Word),
        ("mirror(disk,)x".to_owned(), 12, Why::Name),
        ("mirror(disk))".to_owned(), 12, Why::Word),
        ("compare".to_owned(), 0, Why::Name),
        ("crypt".to_owned(), 0, Why::Name),
        ("crypt=".to_owned(), 0, Why::Number),
        (format!("crypt={}", zeros(63)), 0, Why::Number),
        (format!("crypt={}", zeros(66)), 0, Why::Number),
        (format!("linear.crypt={}g", zeros(127)), 7, Why::Number),
        ("file".to_owned(), 4, Why::Word),
        ("file=c".to_owned(), 6, Why::NoSource),
        ("((((".to_owned(), 0, Why::Name),
        ("linear(linear(linear(linear(linear(disk)))))".to_owned(), 35, Why::TooMany),
        ("linear*2048".to_owned(), 11, Why::TooMany),
        ("linear*99999999999".to_owned(), 18, Why::TooMany),
    ] {
        assert_eq!(layers(&text).err(), Some(Bad { at, why }), "{text}");
    }
}

#[test]
fn as_many_layers_as_are_allowed_come_and_go_without_nesting() {
    // Each in the drop of the one above would take more than this.
    let small = std::thread::Builder::new().stack_size(64 << 10);
    let thread = small.spawn(|| layers(&format!("linear*{}", MOST_LAYERS - 1))).unwrap();
    assert_eq!(thread.join().unwrap(), Ok(MOST_LAYERS));
    let small = std::thread::Builder::new().stack_size(64 << 10);
    let thread = small.spawn(|| layers("mirror(linear*1500,linear*1500)")).unwrap();
    assert_eq!(thread.join().unwrap().map_err(|bad| bad.why), Err(Why::TooMany));
}

#[test]
fn without_a_disk_there_are_files_only() {
    struct Bare;
    impl description::Sources for Bare {
        fn disk(&self) -> Result<std::sync::Arc<dyn super::Block>, Why> {
            Err(Why::NoSource)
        }

        fn file(&self, _: &[u8]) -> Result<&'static [u8], Why> {
            Ok(&[0; 1024])
        }
    }
    for (text, result) in [("linear", Err(Why::NoSource)), ("disk", Err(Why::NoSource)), ("linear.file=x", Ok(2))] {
        let count = description::build(text.as_bytes(), &Bare).map(|layers| layers.count()).map_err(|bad| bad.why);
        assert_eq!(count, result, "{text}");
    }
}

#[test]
fn rubbish_is_refused_and_never_panics() {
    const PIECES: [&str; 16] = [
        "linear", "mirror", "compare", "crypt=", "disk", "fail", "file=a", "(", ")", ",", ".", "@", "+", "*", "7", "00",
    ];
    let (mut random, machine) = (Random(42), Machine::new(u64::MAX));
    let (mut good, mut bad) = (0, 0);
    for _ in 0..20_000 {
        let length = random.next() % 8 + 1;
        let text: String = (0..length).map(|_| PIECES[(random.next() >> 20) as usize % PIECES.len()]).collect();
        match machine.build(&text) {
            Ok(_) => good += 1,
            Err(error) => bad += usize::from(error.at <= text.len()),
        }
    }
    assert!(good > 100 && good + bad == 20_000, "{good} good, {bad} bad");
}
