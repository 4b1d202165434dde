//! Scopes as people type them.

use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::scope::normal;
use crate::sys::fs::real_path;

/// The paths that are meant, from the project's directory. A symbolic link stands for what it leads
/// to: that is where git will see the change.
pub fn resolve(root: &Path, scopes: &[String]) -> Result<Vec<String>> {
    let mut resolved = Vec::new();
    for scope in scopes {
        let plain = normal(scope).map_err(Error::usage)?;
        let real = match (real_path(root), real_path(&root.join(&plain))) {
            (Some(top), Some(real)) => match real.strip_prefix(&top) {
                Ok(below) => below.to_string_lossy().into_owned(),
                Err(_) => {
                    let what = format!("scope `{plain}` leads to {}", real.display());
                    return Err(Error::usage(what).hint("give a path inside the project"));
                }
            },
            // What is not there yet may be made by the task.
            _ => plain,
        };
        resolved.push(normal(if real.is_empty() { "." } else { &real }).map_err(Error::usage)?);
    }
    Ok(resolved)
}
