//! The consumer's side: keys, lanes, vouchers and checked receipts behind an OpenAI endpoint.
