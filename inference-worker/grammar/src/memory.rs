//! What all forms that are being kept to may hold in memory together, and those of one tenant.

use crate::error::GrammarError;
use openledger_engine::Tenant;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes that each form counts as at least: what a small one holds.
pub(crate) const LEAST: usize = 512 << 10;

/// One tenant has at most this part of the memory, so that one that takes all that it can leaves enough to
/// the others.
const TENANTS: usize = 4;

/// Bytes, and how many of them are held.
pub(crate) struct Memory {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: usize,
    tenants: HashMap<Tenant, usize>,
}

impl Memory {
    pub fn new(most: usize) -> Self {
        Memory {
            most,
            held: Mutex::default(),
        }
    }

    /// Nothing panics between two changes.
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes bytes of the first `1 / part` of all memory and of the tenant's.
    fn take(&self, tenant: Tenant, bytes: usize, part: usize) -> Result<(), GrammarError> {
        // Without keys there is one tenant, who takes nothing from others.
        let tenants = match tenant == Tenant::default() {
            true => 1,
            false => TENANTS,
        };
        let mut held = self.held();
        let own = held.tenants.get(&tenant).copied().unwrap_or_default();
        let own = own.saturating_add(bytes);
        if own > self.most / tenants / part && tenants > 1 {
            return Err(GrammarError::TenantMemory);
        }
        let all = held.all.saturating_add(bytes);
        if all > self.most / part {
            return Err(GrammarError::NoMemory);
        }
        held.all = all;
        held.tenants.insert(tenant, own);
        Ok(())
    }

    fn give_back(&self, tenant: Tenant, bytes: usize) {
        let mut held = self.held();
        held.all = held.all.saturating_sub(bytes);
        if let Some(own) = held.tenants.get_mut(&tenant) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                held.tenants.remove(&tenant);
            }
        }
    }
}

/// One form's part.
pub(crate) struct Share {
    memory: Arc<Memory>,
    tenant: Tenant,
    bytes: usize,
}

impl Share {
    /// A share for a new form; none when half of the memory is held, or of the tenant's. The other half is for
    /// those under way to grow in: an answer that has begun should not end for others that begin.
    pub fn new(memory: &Arc<Memory>, tenant: Tenant) -> Result<Self, GrammarError> {
        memory.take(tenant, LEAST, 2)?;
        Ok(Share {
            memory: Arc::clone(memory),
            tenant,
            bytes: LEAST,
        })
    }

    /// The form holds so much now; an error when there is no more.
    pub fn grow(&mut self, bytes: usize) -> Result<(), GrammarError> {
        let more = bytes.saturating_sub(self.bytes);
        if more > 0 {
            self.memory.take(self.tenant, more, 1)?;
            self.bytes += more;
        }
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.memory.give_back(self.tenant, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_forms_should_leave_half_to_those_under_way() {
        let memory = Arc::new(Memory::new(4 * LEAST));
        let one = || Share::new(&memory, Tenant::default());
        let (mut first, second) = (one().unwrap(), one().unwrap());
        assert!(matches!(one(), Err(GrammarError::NoMemory)));
        first.grow(3 * LEAST).unwrap();
        first.grow(LEAST).expect("what is held is not given back");
        let more = first.grow(3 * LEAST + 1);
        assert!(matches!(more, Err(GrammarError::NoMemory)));
        drop(second);
        first.grow(4 * LEAST).unwrap();
        drop(first);
        assert!(one().is_ok());
        assert!(memory.held().tenants.is_empty());
    }

    #[test]
    fn one_tenant_should_leave_enough_to_the_others() {
        let memory = Arc::new(Memory::new(16 * LEAST));
        let [greedy, other] = [Tenant([1; 32]), Tenant([2; 32])];
        let mut first = Share::new(&memory, greedy).unwrap();
        let _second = Share::new(&memory, greedy).unwrap();
        let third = Share::new(&memory, greedy);
        assert!(matches!(third, Err(GrammarError::TenantMemory)));
        first.grow(3 * LEAST).unwrap();
        let more = first.grow(3 * LEAST + 1);
        assert!(matches!(more, Err(GrammarError::TenantMemory)));
        let mut others = Share::new(&memory, other).unwrap();
        others.grow(4 * LEAST).unwrap();
        drop(first);
        assert!(Share::new(&memory, greedy).is_ok());
    }
}
