//! How many packages a build takes in.

use crate::tree::Tree;

/// Most packages that `Cargo.lock` may name. It may be lowered; whoever raises it says in the
/// commit what the new packages are worth.
const PACKAGES: usize = 446;

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let packages = tree.text("Cargo.lock").lines().filter(|line| *line == "[[package]]").count();
    if packages <= PACKAGES {
        return Vec::new();
    }
    vec![format!("Cargo.lock: {packages} packages, and at most {PACKAGES} are allowed (xtask, tidy/lock.rs)")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_packages_are_found() {
        let lock = |packages: usize| check(&Tree::of(&[("Cargo.lock", &"[[package]]\n".repeat(packages))]));
        assert!(lock(PACKAGES).is_empty());
        assert_eq!(lock(PACKAGES + 1).len(), 1);
    }
}
