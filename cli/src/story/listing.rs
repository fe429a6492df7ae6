//! The areas of a vmalloc, drawn: a line each as in `/proc/vmallocinfo`, the totals, and a bar for how the addresses are used.
//!
//! ```text
//!   ffffc980812fc000-ffffc980812fd000    4096     1     0  vmalloc   areas.rs:51
//!
//!   addresses  │███████████████░▒▒▒▒▒▒··········__________│
//! ```

use super::areas::{Account, Listed};

/// Lines of the listing; more areas are counted.
const ROWS: usize = 16;
/// Columns of the bar.
const WIDTH: usize = 64;
/// Columns for who asked: the end of a path is what tells.
const CALLER: usize = 13;
/// What the parts of the bar are drawn with, and called.
const PARTS: [(char, &str); 6] = [
    ('█', "in areas"),
    ('░', "guards"),
    ('▒', "padding"),
    ('·', "in free slots"),
    ('_', "in free runs"),
    ('~', "waiting"),
];
/// How many of them are on the first line of the legend: what areas take.
const TAKEN: usize = 3;

/// The lines of the drawing, at most 80 columns wide; none without areas.
pub(crate) fn draw(account: &Account) -> Vec<String> {
    if account.listed.is_empty() {
        return Vec::new();
    }
    let head =
        format!("  {:<33} {:>7} {:>5} {:>5}  {:<8}  caller", "area of the vmalloc", "bytes", "pages", "large", "kind");
    let more = account.listed.len().saturating_sub(ROWS);
    let more = (more > 0).then(|| format!("        not listed: {more} more"));
    let rows = account.listed.iter().take(ROWS).map(row);
    let lines = [String::new(), head].into_iter().chain(rows).chain(more);
    lines.chain(totals(account)).chain(bar(account)).collect()
}

fn row(area: &Listed) -> String {
    let Listed { start, end, bytes, pages, large, kind, caller } = area;
    format!("  {start:016x}-{end:016x} {bytes:>7} {pages:>5} {large:>5}  {kind:<8}  {}", short(caller))
}

/// The name of the file, and the line; from its end, if that is long.
fn short(caller: &str) -> String {
    let name = caller.rsplit('/').next().unwrap_or(caller);
    match name.chars().count().checked_sub(CALLER) {
        None | Some(0) => name.to_owned(),
        Some(over) => format!("…{}", name.chars().skip(over + 1).collect::<String>()),
    }
}

fn totals(account: &Account) -> [String; 3] {
    let Account { areas, bytes, pages, reserved, records, allocated, freed, .. } = account;
    let tables = account.tables.map_or_else(String::new, |[_, tables]| format!(", {tables} of page tables"));
    let reserved = if *reserved > 0 { format!(", {reserved} of them addresses alone") } else { String::new() };
    [
        String::new(),
        format!("  {areas} areas of {bytes} bytes: {pages} pages{reserved}"),
        format!("  beside them {records} pages of records{tables}; {allocated} areas made, {freed} freed"),
    ]
}

/// The use of addresses, drawn, and its figures.
fn bar(account: &Account) -> Vec<String> {
    let all = account.addresses.all();
    let [lost, scattered] = account.permille.map(|permille| format!("{}.{} %", permille / 10, permille % 10));
    let [runs, longest] = account.runs;
    let drawn: String =
        columns(&all).iter().zip(PARTS).map(|(&width, (mark, _))| mark.to_string().repeat(width)).collect();
    let legend = |parts: core::ops::Range<usize>| {
        let there = parts.filter(|&part| all[part] > 0);
        there.map(|part| format!("{} {} {}", PARTS[part].0, all[part], PARTS[part].1)).collect::<Vec<_>>().join("  ")
    };
    let free = legend(TAKEN..PARTS.len());
    let mut lines = vec![format!("  pages  │{drawn}│"), format!("         {}", legend(0..TAKEN))];
    lines.extend((!free.is_empty()).then(|| format!("         {free}")));
    lines.push(format!("  lost to guards and padding: {lost}; of what is free {scattered} lie scattered"));
    lines.extend((runs > 0).then(|| format!("  free runs: {runs}, the longest of {longest} pages")));
    lines
}

/// How many columns each part has of the bar: in proportion, but at least one if there is any of it.
fn columns(parts: &[u64; 6]) -> [usize; 6] {
    let total = parts.iter().sum::<u64>().max(1);
    let there = parts.iter().filter(|&&part| part > 0).count();
    let shared = (WIDTH - there) as u64;
    let (mut so_far, mut drawn) = (0, 0);
    parts.map(|part| {
        so_far += part;
        let until = usize::try_from(so_far.saturating_mul(shared) / total).unwrap_or(WIDTH);
        let width = until - drawn + usize::from(part > 0);
        drawn = until;
        width
    })
}

#[cfg(test)]
mod tests {
    use super::{WIDTH, columns, short};

    #[test]
    fn a_bar_is_as_wide_as_it_is_and_shows_every_part() {
        for parts in [[1, 1, 1, 1, 1, 1], [1669, 9, 565, 2365, 1536, 0], [1 << 40, 1, 0, 0, 0, 0]] {
            let drawn = columns(&parts);
            assert_eq!(drawn.iter().sum::<usize>(), WIDTH, "{parts:?}");
            assert!(parts.iter().zip(drawn).all(|(&part, width)| (part > 0) == (width > 0)), "{parts:?}: {drawn:?}");
        }
        assert_eq!(columns(&[0; 6]), [0; 6]);
    }

    #[test]
    fn callers_are_told_by_the_end_of_their_path() {
        assert_eq!(short("src/story/areas.rs:51"), "areas.rs:51");
        assert_eq!(short("src/somewhere_else.rs:1234"), "…else.rs:1234");
    }
}
