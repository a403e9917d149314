//! A disk of a test's own, in memory, that can be full without hurting anybody else. Needs root.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::Command;

/// From now on this folder, which is made if need be, is a file system of so many megabytes. They are taken as they are filled.
pub fn mount(folder: &Path, megabytes: u32) {
    std::fs::create_dir_all(folder).unwrap();
    let size = format!("size={megabytes}m");
    let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "remora-disk"]).arg(folder).status();
    assert!(mounted.unwrap().success(), "{} cannot be mounted", folder.display());
}

/// It is none any more, whoever still uses it.
pub fn unmount(folder: &Path) {
    let _not_mounted = Command::new("umount").arg("-l").arg(folder).status();
}

/// Writes into a file, behind what is in it, until its disk is full to the last byte.
pub fn fill(file: &Path) {
    let mut filler = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
    for size in [1 << 20, 4096, 1] {
        let block = vec![1; size];
        while filler.write(&block).is_ok_and(|written| written > 0) {}
    }
    let error = filler.write(&[1]).expect_err("a full disk takes nothing");
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
}
