//! The life of areas against a model: any sequence of operations on any CPU, with failures, late acknowledgements and CPUs that run ahead, leaves what
//! the invariants say, and page tables that agree.

mod drive;
mod fake;

use drive::{Free, Lay, Op, Size, Way};
use fake::{Fake, Flush, Supply};
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![6 => areas_op(), 5 => frees_op(), 3 => kernels_op()]
}

/// An area comes.
fn areas_op() -> impl Strategy<Value = Op> {
    let laid = || (any::<u32>().prop_map(Size), any::<u16>().prop_map(Lay));
    prop_oneof![
        8 => laid().prop_map(|(size, lay)| Op::Alloc(size, lay)),
        2 => laid().prop_map(|(size, lay)| Op::Brief(size, lay)),
        2 => laid().prop_map(|(size, lay)| Op::Reserve(size, lay)),
        3 => (0..24_u16, any::<u16>(), any::<u8>().prop_map(Way)).prop_map(|(pages, first, way)| Op::Vmap { pages, first, way }),
        1 => (any::<u16>(), any::<u16>(), any::<u8>().prop_map(Way)).prop_map(|(pages, first, way)| Op::Vmap { pages, first, way }),
    ]
}

/// One goes, or is used.
fn frees_op() -> impl Strategy<Value = Op> {
    let n = any::<u16>;
    let bad = prop_oneof![Just(Free::Inside), Just(Free::Guard), Just(Free::Freed), Just(Free::Anywhere)];
    prop_oneof![
        8 => n().prop_map(Op::Free),
        2 => (bad, n(), any::<u32>()).prop_map(|(what, which, at)| Op::BadFree(what, which, at)),
        1 => any::<u32>().prop_map(Op::Find),
        4 => (n(), n()).prop_map(|(which, page)| Op::Write(which, page)),
        2 => any::<u32>().prop_map(Op::Speculate),
    ]
}

/// Something else happens.
fn kernels_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..3_u8).prop_map(Op::RunOn),
        2 => (0..12_u8).prop_map(Op::FailIn),
        1 => Just(Op::Drain),
        1 => Just(Op::Trim),
        1 => Just(Op::Pressure),
        2 => Just(Op::Answer),
        1 => Just(Op::LeaveCpu),
    ]
}

proptest! {
    #![proptest_config(Config { cases: 96, ..Config::default() })]

    #[test]
    fn any_sequence_keeps_the_invariants(
        ops in proptest::collection::vec(op(), 1..160),
        late in any::<bool>(),
        foresees in any::<bool>(),
        takes_tables in any::<bool>(),
        lent_twice in any::<bool>(),
        large in 0..12_usize,
        frames in prop_oneof![1 => 300..3000_usize, 3 => Just(40_000)],
        chunks in 40..100_usize,
    ) {
        let flush = if late { Flush::WhenAsked } else { Flush::Now };
        let supply = Supply { large, frames, chunks, flush, lent_twice, foresees, takes_tables, ..Supply::plenty() };
        drive::run(&Fake::new(supply), &ops);
    }
}
