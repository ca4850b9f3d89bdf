//! Whether the tasks of a plan can be put in an order.
//!
//! Here lives the search for cycles in what tasks need. It is linear and does not recurse: a plan may be one
//! chain of as many tasks as a plan may have.

/// Returns the cycles among tasks, each as places in the order "needs", beginning at its first task.
///
/// `needs[i]` lists the places that task `i` needs. Every task that can never begin is on a cycle that is
/// returned or waits for one that is; cycles that share a task with one already found are not listed again.
pub fn cycles(needs: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let stuck = never_ready(needs);
    let mut walked = vec![false; needs.len()];
    let mut found = Vec::new();
    for start in 0..needs.len() {
        if stuck[start] && !walked[start] {
            found.extend(walk(needs, &stuck, &mut walked, start));
        }
    }
    found
}

/// Takes away, again and again, the tasks that need nothing that is left; returns what remains.
fn never_ready(needs: &[Vec<usize>]) -> Vec<bool> {
    let mut dependents: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    let mut unmet: Vec<usize> = needs.iter().map(Vec::len).collect();
    for (task, needed) in needs.iter().enumerate() {
        needed.iter().for_each(|n| dependents[*n].push(task));
    }
    let mut ready: Vec<usize> = (0..needs.len()).filter(|task| unmet[*task] == 0).collect();
    while let Some(task) = ready.pop() {
        for dependent in &dependents[task] {
            unmet[*dependent] -= 1;
            if unmet[*dependent] == 0 {
                ready.push(*dependent);
            }
        }
    }
    unmet.into_iter().map(|count| count > 0).collect()
}

/// Follows the first stuck need of each task until a task comes again. Every stuck task has one.
fn walk(needs: &[Vec<usize>], stuck: &[bool], walked: &mut [bool], start: usize) -> Option<Vec<usize>> {
    let mut path = Vec::new();
    let mut task = start;
    while !walked[task] {
        walked[task] = true;
        path.push(task);
        task = needs[task].iter().copied().find(|n| stuck[*n])?;
    }
    // The walk may have run into an earlier one, whose cycle is known.
    let begin = path.iter().position(|seen| *seen == task)?;
    let mut cycle = path.split_off(begin);
    let first = cycle.iter().enumerate().min_by_key(|(_, task)| **task).map_or(0, |(place, _)| place);
    cycle.rotate_left(first);
    Some(cycle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(needs: &[&[usize]], expected: &[&[usize]]) {
        let needs: Vec<Vec<usize>> = needs.iter().map(|n| n.to_vec()).collect();
        assert_eq!(cycles(&needs), expected);
    }

    #[test]
    fn plans_without_cycles_have_none() {
        check(&[], &[]);
        check(&[&[]], &[]);
        check(&[&[1, 2], &[2], &[]], &[]);
    }

    #[test]
    fn a_cycle_is_named_from_its_first_task() {
        check(&[&[0]], &[&[0]]);
        check(&[&[2], &[0], &[1]], &[&[0, 2, 1]]);
        check(&[&[1], &[2], &[3], &[1]], &[&[1, 2, 3]]);
    }

    #[test]
    fn each_separate_cycle_is_found_once() {
        check(&[&[1], &[0], &[3], &[2], &[0, 2]], &[&[0, 1], &[2, 3]]);
    }

    #[test]
    fn a_chain_and_a_ring_of_a_hundred_thousand_do_not_recurse() {
        let count = 100_000;
        let chain: Vec<Vec<usize>> = (0..count).map(|i| if i == 0 { vec![] } else { vec![i - 1] }).collect();
        assert!(cycles(&chain).is_empty());
        let ring: Vec<Vec<usize>> = (0..count).map(|i| vec![(i + count - 1) % count]).collect();
        assert_eq!(cycles(&ring)[0].len(), count);
    }

    proptest! {
        #[test]
        fn what_is_found_is_a_cycle_and_without_one_there_is_an_order(
            needs in prop::collection::vec(prop::collection::btree_set(0usize..8, 0..3), 8)
        ) {
            let needs: Vec<Vec<usize>> = needs.into_iter().map(|n| n.into_iter().collect()).collect();
            let found = cycles(&needs);
            for cycle in &found {
                for (place, task) in cycle.iter().enumerate() {
                    prop_assert!(needs[*task].contains(&cycle[(place + 1) % cycle.len()]));
                }
            }
            let mut done = [false; 8];
            for _ in 0..8 {
                for task in 0..8 {
                    done[task] = done[task] || needs[task].iter().all(|n| done[*n]);
                }
            }
            prop_assert_eq!(found.is_empty(), done.iter().all(|d| *d));
        }
    }
}
