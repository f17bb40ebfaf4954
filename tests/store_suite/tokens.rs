//! Access tokens.

use rearguard::store::{StoreError, TokenScope};

use super::fixture::*;

pub async fn a_token_is_known_by_its_secret(base: &Base) {
    let store = base.open().await;
    let scopes = [TokenScope::Read, TokenScope::Ack, TokenScope::Read];
    let secret = store.create_token("ann", &scopes, at(1)).await.unwrap();
    assert!(secret.starts_with("rg_") && secret.len() == 3 + 64, "256 bits");
    let token = store.verify_token(&secret).await.unwrap().unwrap();
    assert_eq!((&*token.name, token.created), ("ann", at(1)));
    assert!(token.allows(TokenScope::Read) && token.allows(TokenScope::Ack));
    assert!(!token.allows(TokenScope::Rearm));
    let admin = store.create_token("root", &[TokenScope::Admin], at(1)).await.unwrap();
    assert!(store.verify_token(&admin).await.unwrap().unwrap().allows(TokenScope::Rearm));
    for wrong in ["", "rg_", "rg_00", &secret[..66], &secret[3..], &format!("{secret}0")] {
        assert_eq!(store.verify_token(wrong).await.unwrap(), None, "{wrong}");
    }
    let (sql, hex) = ("SELECT count(*) FROM tokens WHERE hash LIKE", &secret[3..]);
    let stored = base.count(&format!("{sql} '%{hex}%'")).await;
    assert_eq!(stored, 0);
}

pub async fn a_revoked_token_is_unknown(base: &Base) {
    let store = base.open().await;
    let secret = store.create_token("ann", &[TokenScope::Read], at(1)).await.unwrap();
    store.revoke_token("ann", "root", at(2)).await.unwrap();
    assert_eq!(store.verify_token(&secret).await.unwrap(), None);
    let error = store.revoke_token("ann", "root", at(3)).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchToken(_)), "{error}");
    assert_eq!(store.tokens().await.unwrap()[0].revoked, Some(at(2)));
    let again = store.create_token("ann", &[], at(4)).await.unwrap();
    assert_ne!(again, secret);
    assert_eq!(store.verify_token(&secret).await.unwrap(), None);
}

pub async fn names_are_unique(base: &Base) {
    let store = base.open().await;
    store.create_token("ann", &[], at(1)).await.unwrap();
    let error = store.create_token("ann", &[], at(1)).await.unwrap_err();
    assert!(matches!(error, StoreError::TokenExists(_)), "{error}");
}
