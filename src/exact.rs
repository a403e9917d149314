//! Maps that stay as they are for as long as their container lives. One that was filled piece by piece has room for four entries
//! at least, and mostly there is one: with a dozen maps per container that would be a third of all that is kept.

use litemap::LiteMap;

/// The same map, without room for more.
#[must_use]
pub fn exact<K, V>(map: LiteMap<K, V>) -> LiteMap<K, V> {
    let mut entries = map.into_tuple_vec();
    entries.shrink_to_fit();
    // They are sorted: they come from a map.
    LiteMap::from_sorted_store_unchecked(entries)
}
