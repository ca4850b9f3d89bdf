//! `quorate sql`: what the owner of a PostgreSQL ledger runs by hand.
//!
//! Here lives the choice of the text; the texts themselves live in `service`, beside the tables.

use crate::args::{Sql, SqlText};
use crate::print;
use quorate_service::{RESTORED_SQL, ROLES_SQL};
use serde_json::json;

pub(crate) fn sql(args: &Sql, json: bool) -> u8 {
    let text = match args.text {
        SqlText::Roles => ROLES_SQL,
        SqlText::Restored => RESTORED_SQL,
    };
    print::answer(json, || json!({ "sql": text }), || text.to_owned());
    0
}
