//! What a process remembers of one ledger between operations: one value of each type.
//!
//! Here lives only the place; what is remembered is the matter of who asks for it.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// One value of each type, made when it is first asked for.
#[derive(Debug, Default)]
pub(crate) struct Slots(Mutex<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Slots {
    pub(crate) fn of<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        let mut slots = self.0.lock().expect("nobody panics while they hold the list");
        let slot = slots.entry(TypeId::of::<T>()).or_insert_with(|| Arc::new(T::default()));
        Arc::clone(slot).downcast().expect("a value is kept under its own type")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn a_value_of_each_type_is_remembered() {
        let slots = Slots::default();
        slots.of::<AtomicU32>().store(7, Ordering::SeqCst);
        assert_eq!(slots.of::<AtomicU32>().load(Ordering::SeqCst), 7);
        assert_eq!(*slots.of::<String>(), "");
    }
}
