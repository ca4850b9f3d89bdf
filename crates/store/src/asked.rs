//! What is asked of a ledger, without its types.
//!
//! Here live the one shape in which an operation or a question reaches either database, and the way back to its
//! own answer. What runs it is compiled once, and not again for each operation in each crate that asks for it.

use crate::store::{Boxed, Read, Write};
use crate::tx::Tx;
use std::any::Any;

/// An answer whose type only the one who asked knows.
pub(crate) type Answer = Box<dyn Any + Send>;

/// An operation or a question.
pub(crate) trait Asked: Any + Send + Sync {
    /// Does it within a transaction.
    fn run<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Answer>;
}

/// An operation as it is asked for.
pub(crate) struct Operation<W>(pub(crate) W);

impl<W: Write> Asked for Operation<W> {
    fn run<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Answer> {
        let applied = self.0.apply(tx);
        Box::pin(async move { Ok(Box::new(applied.await?) as Answer) })
    }
}

/// A question as it is asked.
pub(crate) struct Question<R>(pub(crate) R);

impl<R: Read> Asked for Question<R> {
    fn run<'a>(&'a self, tx: &'a mut Tx) -> Boxed<'a, Answer> {
        let fetched = self.0.fetch(tx);
        Box::pin(async move { Ok(Box::new(fetched.await?) as Answer) })
    }
}

/// Returns the answer to what was asked, as its own type.
pub(crate) fn answer<T: 'static>(answer: Answer) -> T {
    *answer.downcast().expect("the answer is that of what was asked")
}
