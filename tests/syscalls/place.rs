//! Where the queues of these tests lie.

use std::path::Path;

/// A directory that is gone when the test is over.
pub struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    /// On the fastest file system there is: most points do not hang on which it is.
    pub fn fast() -> Place {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() && std::env::var_os("TMPDIR").is_none() {
            return Place::below(memory);
        }
        Place::below(&std::env::temp_dir())
    }

    /// In that directory.
    pub fn below(dir: &Path) -> Place {
        Place { dir: tempfile::Builder::new().prefix("coord-syscalls-").tempdir_in(dir).unwrap() }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }
}
