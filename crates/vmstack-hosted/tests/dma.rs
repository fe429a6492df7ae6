//! Requests by chance at the door to devices, with a device that has a mapping of its own: every byte is compared, every refusal judged.

use vmstack::DmaPolicy;
use vmstack_hosted::dma::at_random;

#[test]
fn no_byte_is_wrong_and_no_answer_whatever_is_asked() {
    for (policy, tally) in at_random(5_000, 0x1d).expect("there is memory for a machine") {
        assert!(tally.is_good(), "{policy:?}: {tally:#?}");
        assert!(tally.requests >= 5_000 && tally.refused > 500 && tally.plain > 500, "{policy:?}: {tally:#?}");
        let (mapped, bounced) = (tally.mapped > 200, tally.bounced > 200);
        let expected = (policy == DmaPolicy::Map, policy != DmaPolicy::Refuse);
        assert_eq!((mapped, bounced), expected, "{policy:?}: {tally:#?}");
        assert!(tally.compared > 10 << 20, "{policy:?}: {tally:#?}");
        if policy != DmaPolicy::Refuse {
            assert!(tally.died > 20 && tally.lists > 50, "{policy:?}: {tally:#?}");
        }
    }
}
