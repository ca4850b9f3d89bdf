//! What is claimed alone is held by one agent at a time, and by nobody who is gone.

use crate::history::{Event, Grant, History};
use quorate_model::resource::Resource;

/// No two agents hold overlapping resources at the same time. All claims of a storm are exclusive.
pub fn claims_do_not_overlap(history: &History) -> Vec<String> {
    overlaps(history.grants.iter().cloned())
}

/// By the log too, no two agents hold overlapping resources at the same time.
pub fn the_log_tells_claims_in_order(history: &History) -> Vec<String> {
    overlaps(history.events.iter().filter_map(told))
}

/// Reads an event as the beginning or the end of a claim.
fn told(event: &Event) -> Option<Grant> {
    let is_begin = match event.kind.as_str() {
        "claim.taken" => true,
        "claim.released" | "claim.expired" => false,
        _ => return None,
    };
    let (resource, agent) = (event.resource.clone(), event.agent.clone());
    Some(Grant { place: event.seq, is_begin, term: event.data["term"].as_i64()?, resource, agent })
}

fn overlaps(grants: impl Iterator<Item = Grant>) -> Vec<String> {
    let mut held: Vec<(Grant, Resource)> = Vec::new();
    let mut findings = Vec::new();
    for grant in grants {
        if !grant.is_begin {
            held.retain(|(other, _)| other.term != grant.term);
            continue;
        }
        let Ok(resource) = Resource::from_stored(&grant.resource) else {
            findings.push(format!("{grant:?} names no resource"));
            continue;
        };
        let others = held.iter().filter(|(other, _)| other.agent != grant.agent);
        findings.extend(others.filter(|(_, other)| other.overlaps(&resource)).map(|(other, _)| {
            format!(
                "{} taken by {} ({}) while {} is held by {} ({})",
                grant.resource, grant.agent, grant.place, other.resource, other.agent, other.place
            )
        }));
        held.push((grant, resource));
    }
    findings
}

/// When all tasks have ended, no claim is left.
pub fn no_claim_outlives_its_holder(history: &History) -> Vec<String> {
    let left = history.claims.iter();
    left.map(|claim| format!("{} is still held by {} for task {:?}", claim.resource, claim.agent, claim.task))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::sample::check;
    use crate::history::Claim;
    use serde_json::json;

    fn claim(kind: &str, resource: &str, agent: &str, term: i64) -> Event {
        let data = json!({ "term": term, "mode": "exclusive" });
        Event { kind: kind.into(), resource: resource.into(), agent: agent.into(), data, ..Event::default() }
    }

    fn grants(events: &[Event]) -> Vec<Grant> {
        events.iter().filter_map(told).collect()
    }

    #[test]
    fn overlapping_claims_of_two_agents_are_found() {
        let both = [claim("claim.taken", "zone1/**", "ada", 1), claim("claim.taken", "zone1/file", "bob", 2)];
        check(claims_do_not_overlap, "zone1/file taken by bob", |h| h.grants = grants(&both));
        check(the_log_tells_claims_in_order, "zone1/file taken by bob", |h| h.events.extend(both.clone()));
    }

    #[test]
    fn claims_after_one_another_are_no_finding() {
        let mut history = crate::check::sample::good();
        for (end, terms) in [("claim.released", (1, 2)), ("claim.expired", (3, 4))] {
            history.events.push(claim("claim.taken", "zone1/**", "ada", terms.0));
            history.events.push(claim(end, "zone1/**", "ada", terms.0));
            history.events.push(claim("claim.taken", "zone1/file", "bob", terms.1));
            history.events.push(claim("claim.taken", "zone2/file", "ada", terms.1 + 10));
            history.events.push(claim(end, "zone1/file", "bob", terms.1));
            history.events.push(claim(end, "zone2/file", "ada", terms.1 + 10));
        }
        history.grants = grants(&history.events);
        assert_eq!(claims_do_not_overlap(&history), Vec::<String>::new());
        assert_eq!(the_log_tells_claims_in_order(&history), Vec::<String>::new());
    }

    #[test]
    fn a_claim_that_is_left_is_found() {
        check(no_claim_outlives_its_holder, "zone1/** is still held by ada", |h| {
            h.claims.push(Claim { resource: "zone1/**".into(), agent: "ada".into(), task: Some(1) });
        });
    }
}
