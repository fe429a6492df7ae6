//! The number of mappings that Linux allows a process, reached by areas: an error of its own, and everything comes back. A program of its own, because
//! the limit is the process's.

#![expect(clippy::unwrap_used, clippy::undocumented_unsafe_blocks, reason = "a test says what it does by failing")]

use vmstack_hosted::{Areas, AreasConfig, HostedError, max_mappings};
use vmstack_vmalloc::AreaError;

const PAGE: usize = 4096;

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

#[test]
fn areas_up_to_the_map_limit_end_in_an_error_and_everything_comes_back() {
    let limit = max_mappings().unwrap();
    if limit > 1 << 17 {
        println!("vm.max_map_count is {limit}: that would take long");
        return;
    }
    let before = mappings();
    {
        let areas = Areas::mapped(&AreasConfig::new(limit * 8 * PAGE).frames(limit)).unwrap();
        let _cpu = areas.cpu().unwrap();
        for _ in 0..2 {
            let mut held = Vec::new();
            let error = loop {
                match areas.vmalloc().vmalloc(PAGE) {
                    Ok(area) => held.push(area),
                    Err(error) => break error,
                }
            };
            assert!(
                matches!(
                    error,
                    AreaError::NotMapped(HostedError::MapLimit { .. })
                        | AreaError::NoRecords(HostedError::MapLimit { .. })
                ),
                "{error:?}"
            );
            // An area of one page and its guard are two mappings.
            assert!(held.len().abs_diff((limit - before) / 2) < 600, "{} of {limit}", held.len());
            held.iter().for_each(|area| unsafe { area.as_mut_ptr().write_volatile(1) });
            drop(held);
            areas.vmalloc().drain();
            let recount = areas.vmalloc().recount();
            assert_eq!((recount.areas, recount.dying), (0, 0));
            assert_eq!(areas.frames().taken as u64, recount.record_pages);
        }
    }
    assert!(mappings() <= before + 8, "{} mappings, {before} at first", mappings());
}
