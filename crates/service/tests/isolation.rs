//! A database whose own default is a stricter isolation than ours: what we build on must not change with it.

use quorate_service::SCHEMA;
use quorate_service::claim::Grant;
use quorate_store::{Options, Store, Url};
use quorate_testkit::postgres::Schema;
use quorate_testkit::verbs::want;

type Tested = Result<(), Box<dyn std::error::Error>>;

/// Keeps the lock of the claims for so long that both come to wait for it.
const HOLD: &str = "select pg_advisory_xact_lock(hashtext('quorate.claims'), hashtext(current_schema())); select pg_sleep(0.8)";
/// Whether the lock is held.
const HELD: &str = "select count(*) from pg_locks where locktype = 'advisory' and granted
                     and objid::bigint = hashtext(current_schema())::bigint & 4294967295";

/// A transaction that waits for another must see what that one did, or both would have the same resource.
fn two_who_waited_together_do_not_both_get_it(isolation: &str) -> Tested {
    let schema = Schema::create();
    let url = format!("{}%20-cdefault_transaction_isolation%3D{isolation}", schema.url());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = runtime.block_on(Store::open(&Url::Pg(url), Options::new(&SCHEMA)))?;
    std::thread::scope(|scope| -> Tested {
        let holder = scope.spawn(|| schema.psql(HOLD));
        while schema.psql(HELD)? == "0" && !holder.is_finished() {}
        let both = async {
            tokio::join!(store.write(want("ada", &["port:1"])), store.write(want("bob", &["port:1"])))
        };
        let (ada, bob) = runtime.block_on(both);
        let got = [&ada, &bob].iter().filter(|grant| matches!(grant, Ok(Grant::Taken(_)))).count();
        assert_eq!(got, 1, "with {isolation} as the default: {ada:?} {bob:?}");
        Ok(())
    })
}

#[test]
fn a_default_of_repeatable_read_gives_a_resource_to_one_alone() -> Tested {
    two_who_waited_together_do_not_both_get_it("repeatable\\%20read")
}

#[test]
fn a_default_of_serializable_gives_a_resource_to_one_alone() -> Tested {
    two_who_waited_together_do_not_both_get_it("serializable")
}
