//! How the columns of a list share a width.
//!
//! Here lives the arithmetic alone. A column that may be missed goes when there is no room; one that may stretch takes
//! what is left over.

/// Space between columns.
pub(crate) const GAP: u16 = 1;

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// What it cannot do with less than.
    pub(crate) least: u16,
    /// What it would like to have.
    pub(crate) wish: u16,
    /// How much of what is left over it takes, in parts.
    pub(crate) stretch: u16,
    /// Who goes first when there is no room: the highest. 0 stays.
    pub(crate) goes: u16,
    /// What its numbers are, if they do not tell themselves.
    pub(crate) label: &'static str,
}

/// Shares a width between columns; one that has 0 is not shown.
pub(crate) fn share(width: u16, columns: &[Column]) -> Vec<u16> {
    let mut is_shown: Vec<bool> = columns.iter().map(|column| column.wish > 0).collect();
    while room(columns, &is_shown) > u32::from(width) {
        let goes = (0..columns.len()).filter(|at| is_shown[*at] && columns[*at].goes > 0);
        match goes.max_by_key(|at| columns[*at].goes) {
            Some(at) => is_shown[at] = false,
            None => break,
        }
    }
    let mut widths: Vec<u16> =
        columns.iter().zip(&is_shown).map(|(column, shown)| if *shown { column.least } else { 0 }).collect();
    let mut left = u32::from(width).saturating_sub(room(columns, &is_shown));
    for (at, column) in columns.iter().enumerate().filter(|(at, _)| is_shown[*at]) {
        let more = u32::from(column.wish.saturating_sub(column.least)).min(left);
        widths[at] += u16::try_from(more).unwrap_or(u16::MAX);
        left -= more;
    }
    let mut parts: u32 =
        columns.iter().zip(&is_shown).filter(|(_, shown)| **shown).map(|(c, _)| u32::from(c.stretch)).sum();
    for (at, column) in columns.iter().enumerate().filter(|(at, _)| is_shown[*at]) {
        // Of what is left for those that are left: so nothing is lost by rounding.
        let more = (left * u32::from(column.stretch)).checked_div(parts).unwrap_or(0);
        widths[at] += u16::try_from(more).unwrap_or(u16::MAX);
        left -= more;
        parts -= u32::from(column.stretch);
    }
    widths
}

/// What the shown columns and the gaps between them take at least.
fn room(columns: &[Column], is_shown: &[bool]) -> u32 {
    let shown = columns.iter().zip(is_shown).filter(|(_, shown)| **shown);
    let (count, least) = shown.fold((0, 0), |(n, sum), (column, _)| (n + 1, sum + u32::from(column.least)));
    least + u32::from(GAP) * u32::max(count, 1) - u32::from(GAP)
}

/// Shares lines between lists that want so many: none gets more than it wants, and all that want more get the same. What
/// nobody wants goes to the last.
pub(crate) fn split(lines: u16, wants: &[u16], least: u16) -> Vec<u16> {
    let mut given: Vec<u16> = wants.iter().map(|want| (*want).min(least)).collect();
    // The last ones go when there is no room for all.
    while given.iter().sum::<u16>() > lines {
        match given.iter().rposition(|lines| *lines > 0) {
            Some(0) => given[0] = lines,
            Some(at) => given[at] = 0,
            None => break,
        }
    }
    let mut left = lines - given.iter().sum::<u16>();
    while left > 0 {
        let wanting: Vec<usize> =
            (0..wants.len()).filter(|at| given[*at] > 0 && given[*at] < wants[*at]).collect();
        if wanting.is_empty() {
            break;
        }
        for at in wanting.into_iter().take(usize::from(left)) {
            given[at] += 1;
            left -= 1;
        }
    }
    if let Some(last) = given.iter().rposition(|lines| *lines > 0) {
        given[last] += left;
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(least: u16, wish: u16, stretch: u16, goes: u16) -> Column {
        Column { least, wish, stretch, goes, label: "" }
    }

    #[test]
    fn a_width_is_shared_by_need() {
        let columns = [
            column(4, 12, 0, 0),
            column(7, 7, 0, 0),
            column(5, 5, 1, 0),
            column(0, 0, 0, 1),
            column(6, 6, 0, 2),
        ];
        let check = |width, expected: [u16; 5]| assert_eq!(share(width, &columns), expected, "{width}");
        check(80, [12, 7, 52, 0, 6]);
        check(33, [12, 7, 5, 0, 6]);
        check(25, [4, 7, 5, 0, 6]);
        check(24, [10, 7, 5, 0, 0]);
        check(10, [4, 7, 5, 0, 0]);
        check(0, [4, 7, 5, 0, 0]);
        let stretching = [column(2, 2, 1, 0), column(2, 2, 2, 0), column(2, 2, 0, 0)];
        for width in 8..40 {
            let shared = share(width, &stretching);
            assert_eq!(shared.iter().sum::<u16>() + 2 * GAP, width, "nothing is left over: {shared:?}");
        }
    }

    #[test]
    fn lines_are_shared_by_need() {
        let check =
            |lines, wants: &[u16], expected: &[u16]| assert_eq!(split(lines, wants, 3), expected, "{lines}");
        check(20, &[5, 4, 0, 500], &[5, 4, 0, 11]);
        check(20, &[1000, 1000, 50, 500], &[5, 5, 5, 5]);
        check(11, &[1000, 1000, 50, 500], &[4, 4, 3, 0]);
        check(20, &[5, 4], &[5, 15]);
        check(2, &[9, 9], &[2, 0]);
        check(0, &[9], &[0]);
        check(0, &[], &[]);
    }
}
