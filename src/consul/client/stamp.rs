//! What tells that a file of TLS has been written or replaced.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::config::ConsulTls;

/// Of every file of the settings, and of every file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamps(Vec<(PathBuf, Option<Stamp>)>);

/// Replaced by renaming: another inode. Written again: another time, usually another length. What `stat` says, so that the
/// links of a mounted secret are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamps {
    /// As the files are now. A few calls to a local file system: not worth a thread of its own.
    pub(super) fn of(tls: &ConsulTls) -> Self {
        let client = tls.client.iter().flat_map(|(certificate, key)| [certificate.clone(), key.clone()]);
        let mut paths: Vec<PathBuf> = client.collect();
        if tls.verify {
            paths.extend(tls.ca_file.clone());
            if let Some(folder) = &tls.ca_path {
                let mut found: Vec<PathBuf> = std::fs::read_dir(folder)
                    .map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()).collect())
                    .unwrap_or_default();
                found.sort();
                paths.extend(found);
            }
        }
        Self(paths.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }
}

/// The variables that name files of TLS.
pub(super) fn variables(tls: &ConsulTls) -> Vec<&'static str> {
    let client = tls.client.is_some();
    [
        ("CONSUL_CACERT", tls.verify && tls.ca_file.is_some()),
        ("CONSUL_CAPATH", tls.verify && tls.ca_path.is_some()),
        ("CONSUL_CLIENT_CERT", client),
        ("CONSUL_CLIENT_KEY", client),
    ]
    .into_iter()
    .filter_map(|(name, is_set)| is_set.then_some(name))
    .collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let facts = std::fs::metadata(path).ok()?;
    Some(Stamp {
        inode: facts.ino(),
        length: facts.len(),
        modified: (facts.mtime(), facts.mtime_nsec()),
        changed: (facts.ctime(), facts.ctime_nsec()),
    })
}
