//! Simulated NUMA nodes: which node a CPU, or a frame, is on.
//!
//! A process cannot ask for nodes that the machine does not have, so these are a matter of numbers: the members of a kind are divided
//! among the nodes in runs as equal as can be. Nothing is nearer or farther for it. What can be tested is the bookkeeping: that
//! whoever asks for a node gets that node, and that what comes back goes home.
//!
//! ```text
//!   CPUs     0 1 | 2 3          4 CPUs and 9 frames on 2 nodes
//!   frames   0 1 2 3 4 | 5 6 7 8
//!   node        0      |   1
//! ```
//!
//! Contexts: arithmetic, any.

use core::ops::Range;

use vmstack::Node;

/// `members` of a kind on `nodes` nodes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Division {
    members: u32,
    nodes: u32,
}

impl Division {
    /// Divides `members` among `nodes`, of which there is at least one.
    pub(crate) const fn new(members: u32, nodes: usize) -> Self {
        Self { members, nodes: if nodes == 0 { 1 } else { nodes as u32 } }
    }

    /// How many nodes there are.
    pub(crate) const fn nodes(self) -> usize {
        self.nodes as usize
    }

    /// The node of `member`.
    pub(crate) const fn node(self, member: u32) -> Node {
        if member >= self.members {
            return Node::new(0);
        }
        Node::new((member as u64 * self.nodes as u64 / self.members as u64) as u8)
    }

    /// The members that are on `node`.
    pub(crate) fn members(self, node: usize) -> Range<u32> {
        let first = |node: u64| (node * u64::from(self.members)).div_ceil(u64::from(self.nodes)) as u32;
        first(node as u64)..first(node as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Division;

    #[test]
    fn every_member_is_on_one_node_and_the_shares_differ_by_one_at_most() {
        for (members, nodes) in [(1, 1), (1, 3), (4, 2), (9, 2), (5, 5), (1000, 7), (3, 8), (65_537, 256)] {
            let division = Division::new(members, nodes);
            let shares: Vec<_> = (0..nodes).map(|node| division.members(node)).collect();
            for (node, share) in shares.iter().enumerate() {
                assert!(share.clone().all(|member| division.node(member).index() == node), "{members} on {nodes}");
            }
            let sizes = shares.iter().map(ExactSizeIterator::len);
            assert_eq!(sizes.clone().sum::<usize>(), members as usize);
            assert!(sizes.clone().max() <= sizes.min().map(|least| least + 1), "{shares:?}");
        }
    }

    #[test]
    fn the_first_cpu_is_on_the_first_node_and_a_number_that_no_member_has_does_no_harm() {
        assert_eq!(Division::new(1, 4).node(0).index(), 0);
        assert_eq!(Division::new(2, 4).node(u32::MAX).index(), 0);
    }
}
