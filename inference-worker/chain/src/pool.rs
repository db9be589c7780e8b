//! What a node's transaction pool answers, by the codes of its JSON-RPC (`author_submitExtrinsic`).

use subxt::rpcs::UserError;

/// The meaning of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The transaction is in the pool already.
    AlreadyImported,
    /// The account's nonce has moved past it.
    Outdated,
    /// Another transaction with its nonce is in the pool and would have to be outbid.
    Outbid,
    /// The signature does not fit: the runtime was upgraded, or the anchor block was reverted.
    BadProof,
    /// The pool is full, or has banned the transaction for a while, or cannot tell.
    TryLater(String),
    /// Not acceptable.
    Invalid(String),
}

/// Codes of `sc-rpc-api`'s author errors.
const INVALID: i32 = 1010;
const UNKNOWN_VALIDITY: i32 = 1011;
const TEMPORARILY_BANNED: i32 = 1012;
const ALREADY_IMPORTED: i32 = 1013;
const TOO_LOW_PRIORITY: i32 = 1014;
const IMMEDIATELY_DROPPED: i32 = 1016;

impl From<&UserError> for Refusal {
    fn from(error: &UserError) -> Self {
        let detail = error
            .data
            .as_ref()
            .map(|data| data.get().trim_matches('"').to_owned())
            .unwrap_or_default();
        let reason = if detail.is_empty() {
            error.message.clone()
        } else {
            format!("{}: {detail}", error.message)
        };
        match error.code {
            ALREADY_IMPORTED => Refusal::AlreadyImported,
            TOO_LOW_PRIORITY => Refusal::Outbid,
            UNKNOWN_VALIDITY | TEMPORARILY_BANNED | IMMEDIATELY_DROPPED => {
                Refusal::TryLater(reason)
            }
            INVALID if detail.contains("outdated") => Refusal::Outdated,
            INVALID if detail.contains("bad signature") => Refusal::BadProof,
            INVALID if detail.contains("ancient birth block") => Refusal::BadProof,
            _ => Refusal::Invalid(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: i32, data: &str) -> Refusal {
        let error: UserError = serde_json::from_value(serde_json::json!({
            "code": code, "message": "Invalid Transaction", "data": data,
        }))
        .unwrap();
        Refusal::from(&error)
    }

    #[test]
    fn a_refusal_is_understood_by_its_code() {
        assert_eq!(refusal(1010, "Transaction is outdated"), Refusal::Outdated);
        assert_eq!(
            refusal(1010, "Transaction has a bad signature"),
            Refusal::BadProof
        );
        assert_eq!(
            refusal(1010, "Transaction has an ancient birth block"),
            Refusal::BadProof
        );
        assert!(matches!(
            refusal(1010, "Inability to pay some fees (e.g. account balance too low)"),
            Refusal::Invalid(reason) if reason.contains("balance too low")
        ));
        assert_eq!(refusal(1013, ""), Refusal::AlreadyImported);
        assert_eq!(refusal(1014, ""), Refusal::Outbid);
        assert!(matches!(refusal(1016, ""), Refusal::TryLater(_)));
    }
}
