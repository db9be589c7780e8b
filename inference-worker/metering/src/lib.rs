//! Vouchers, counting, receipts and the crash-safe journal.
