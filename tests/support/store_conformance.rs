//! What every [`Store`] promises. The real one and the fake pass the same suite.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails loudly"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use remora::consul::store::{RELEASED, VALUE_LIMIT};
use remora::consul::{ConsulError, Store};
use tokio::time::{Instant, sleep, timeout};

const TTL: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);

/// The whole suite, on a store that has no keys yet. It leaves nothing behind.
pub async fn conforms(store: &impl Store) {
    what_is_not_there_is_none(store).await;
    values_may_hold_anything(store).await;
    keys_that_are_no_paths_and_values_that_are_too_long_are_invalid(store).await;
    a_condition_is_kept(store).await;
    a_list_has_the_keys_of_its_prefix(store).await;
    a_list_waits_for_its_own_changes(store).await;
    a_key_belongs_to_one_session(store).await;
    the_end_of_a_session_frees_its_keys_after_the_lock_delay(store).await;
    a_lock_is_advice(store).await;
    assert_eq!(store.nodes().await.unwrap(), 1);
    assert_eq!(store.instances("nobody").await.unwrap(), []);
    assert!(store.list("t/", None).await.unwrap().entries.is_empty(), "the suite leaves nothing behind");
}

async fn value(store: &impl Store, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|entry| entry.value)
}

async fn index(store: &impl Store, key: &str) -> u64 {
    store.get(key).await.unwrap().expect("it is there").index
}

fn is_invalid<T: std::fmt::Debug>(outcome: &Result<T, ConsulError>) {
    assert!(matches!(outcome, Err(ConsulError::Invalid { .. })), "{outcome:?}");
}

async fn what_is_not_there_is_none(store: &impl Store) {
    assert_eq!(store.get("t/nothing").await.unwrap(), None);
    let listing = store.list("t/", None).await.unwrap();
    assert_eq!((listing.entries, listing.index > 0), (BTreeMap::new(), true));
    store.delete("t/nothing").await.unwrap();
    assert!(store.delete_if("t/nothing", 7).await.unwrap());
}

async fn values_may_hold_anything(store: &impl Store) {
    let every_byte: Vec<u8> = (0..=255).collect();
    let longest = vec![b'x'; VALUE_LIMIT];
    for (key, content) in [
        ("t/a", b"text" as &[u8]),
        ("t/Web.new-1a2b3c4d_x", &every_byte),
        ("t/per%cent/sp ace/ü?a=b#c", b"{}"),
        ("t/long", &longest),
        ("t/empty", b""),
    ] {
        store.put(key, content).await.unwrap();
        assert_eq!(value(store, key).await.as_deref(), Some(content), "{key}");
        assert_eq!(store.list(key, None).await.unwrap().entries[key].value, content, "{key}");
        store.delete(key).await.unwrap();
        assert_eq!(value(store, key).await, None, "{key}");
    }
}

async fn keys_that_are_no_paths_and_values_that_are_too_long_are_invalid(store: &impl Store) {
    for key in ["", "/t", "t//a", "t/../a", ".", "t/.", "t/", "t/a "] {
        is_invalid(&store.put(key, b"x").await);
        is_invalid(&store.get(key).await);
        is_invalid(&store.delete(key).await);
    }
    is_invalid(&store.put("t/a", &vec![0; VALUE_LIMIT + 1]).await);
    is_invalid(&store.put_if("t/a", &vec![0; VALUE_LIMIT + 1], 0).await);
    assert_eq!(value(store, "t/a").await, None);
}

async fn a_condition_is_kept(store: &impl Store) {
    assert!(!store.put_if("t/a", b"1", 7).await.unwrap(), "there is no such key");
    assert!(store.put_if("t/a", b"1", 0).await.unwrap());
    assert!(!store.put_if("t/a", b"2", 0).await.unwrap(), "there is one now");
    let first = index(store, "t/a").await;
    assert!(store.put_if("t/a", b"2", first).await.unwrap());
    assert!(!store.put_if("t/a", b"3", first).await.unwrap(), "it has changed");
    assert!(!store.delete_if("t/a", first).await.unwrap(), "it has changed");
    let second = index(store, "t/a").await;
    assert!(second > first);
    store.put("t/a", b"2").await.unwrap();
    assert_eq!(index(store, "t/a").await, second, "the same value again is no change");
    assert!(store.delete_if("t/a", second).await.unwrap());
    assert_eq!(value(store, "t/a").await, None);
}

async fn a_list_has_the_keys_of_its_prefix(store: &impl Store) {
    for key in ["t/a", "t/a/b", "t/ab", "t/b/a"] {
        store.put(key, key.as_bytes()).await.unwrap();
    }
    for (prefix, keys) in
        [("t/", &["t/a", "t/a/b", "t/ab", "t/b/a"][..]), ("t/a", &["t/a", "t/a/b", "t/ab"]), ("t/a/", &["t/a/b"])]
    {
        let listing = store.list(prefix, None).await.unwrap();
        assert_eq!(listing.entries.keys().collect::<Vec<_>>(), keys, "{prefix}");
        for (key, entry) in listing.entries {
            assert_eq!(Some(entry), store.get(&key).await.unwrap());
        }
    }
    for key in ["t/a", "t/a/b", "t/ab", "t/b/a"] {
        store.delete(key).await.unwrap();
    }
}

async fn a_list_waits_for_its_own_changes(store: &impl Store) {
    store.put("t/w/a", b"1").await.unwrap();
    let mut index = store.list("t/w/", None).await.unwrap().index;

    // Nothing happens: about as long as was asked for.
    let began = Instant::now();
    let listing = store.list("t/w/", Some((index, 2 * SECOND))).await.unwrap();
    assert!(began.elapsed() >= SECOND, "{:?}", began.elapsed());
    assert_eq!(listing.entries["t/w/a"].value, b"1");

    // A key is set, changed, removed while somebody waits.
    for step in 0..3 {
        let change = async {
            sleep(SECOND / 4).await;
            match step {
                0 => store.put("t/w/b", b"1").await.unwrap(),
                1 => store.put("t/w/b", b"2").await.unwrap(),
                _ => store.delete("t/w/b").await.unwrap(),
            }
        };
        let news = timeout(LONG / 2, store.list("t/w/", Some((index, LONG))));
        let (listing, ()) = tokio::join!(news, change);
        let listing = listing.expect("noticed at once").unwrap();
        assert_eq!(listing.entries.len(), if step == 2 { 1 } else { 2 }, "step {step}");
        assert!(listing.index > index, "step {step}");
        index = listing.index;
    }

    // A change while nobody waits.
    store.put("t/w/a", b"2").await.unwrap();
    let listing = timeout(LONG / 2, store.list("t/w/", Some((index, LONG)))).await.expect("at once").unwrap();
    assert_eq!(listing.entries["t/w/a"].value, b"2");

    // An index of another life: Consul sits out the wait, and the next call begins anew.
    let listing = store.list("t/w/", Some((listing.index + 1_000_000, SECOND))).await.unwrap();
    assert_eq!((listing.index, listing.entries.len()), (0, 1));
    let began = Instant::now();
    assert!(store.list("t/w/", Some((listing.index, LONG))).await.unwrap().index > 0);
    assert!(began.elapsed() < LONG / 2);
    store.delete("t/w/a").await.unwrap();
}

async fn a_key_belongs_to_one_session(store: &impl Store) {
    let first = store.session_create(TTL, SECOND, "first").await.unwrap();
    let second = store.session_create(TTL, SECOND, "second").await.unwrap();
    assert!(store.acquire("t/lock", b"first", &first).await.unwrap());
    assert!(store.acquire("t/lock", b"again", &first).await.unwrap(), "whoever has it may take it again");
    assert!(!store.acquire("t/lock", b"second", &second).await.unwrap());
    let entry = store.get("t/lock").await.unwrap().unwrap();
    assert_eq!((entry.value.as_slice(), entry.session.as_ref()), (b"again" as &[u8], Some(&first)));
    assert!(!store.release("t/lock", &second).await.unwrap(), "it is not its to give");
    assert!(store.release("t/lock", &first).await.unwrap());
    let entry = store.get("t/lock").await.unwrap().unwrap();
    assert_eq!((entry.value.as_slice(), entry.session), (RELEASED, None));
    assert!(!store.release("t/lock", &first).await.unwrap(), "it is given already");
    assert!(store.acquire("t/lock", b"second", &second).await.unwrap(), "a release has no lock delay");
    assert!(store.session_renew(&first).await.unwrap());
    store.session_destroy(&first).await.unwrap();
    store.session_destroy(&second).await.unwrap();
    store.delete("t/lock").await.unwrap();
}

async fn the_end_of_a_session_frees_its_keys_after_the_lock_delay(store: &impl Store) {
    let first = store.session_create(TTL, 2 * SECOND, "first").await.unwrap();
    let second = store.session_create(TTL, 2 * SECOND, "second").await.unwrap();
    assert!(store.acquire("t/slot", b"first", &first).await.unwrap());
    store.session_destroy(&first).await.unwrap();
    let entry = store.get("t/slot").await.unwrap().unwrap();
    assert_eq!((entry.value.as_slice(), entry.session), (b"first" as &[u8], None), "the key stays");
    assert!(!store.acquire("t/slot", b"second", &second).await.unwrap(), "within the lock delay");
    sleep(2 * SECOND + SECOND / 2).await;
    assert!(store.acquire("t/slot", b"second", &second).await.unwrap());

    // It is gone, and stays so.
    assert!(!store.session_renew(&first).await.unwrap());
    store.session_destroy(&first).await.unwrap();
    let outcome = store.acquire("t/slot", b"first", &first).await;
    assert!(matches!(outcome, Err(ConsulError::NotFound { .. })), "{outcome:?}");
    store.session_destroy(&second).await.unwrap();
    store.delete("t/slot").await.unwrap();
}

async fn a_lock_is_advice(store: &impl Store) {
    let session = store.session_create(TTL, Duration::ZERO, "s").await.unwrap();
    assert!(store.acquire("t/lock", b"mine", &session).await.unwrap());
    store.put("t/lock", b"theirs").await.unwrap();
    let entry = store.get("t/lock").await.unwrap().unwrap();
    assert_eq!((entry.value.as_slice(), entry.session.as_ref()), (b"theirs" as &[u8], Some(&session)));
    store.delete("t/lock").await.unwrap();
    assert_eq!(value(store, "t/lock").await, None);
    store.session_destroy(&session).await.unwrap();
}
