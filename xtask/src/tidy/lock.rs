//! How many packages of others a build takes in.

use crate::tree::Tree;

/// Most packages of others that `Cargo.lock` may name. It may be lowered; whoever raises it says in
/// the commit what the new packages are worth.
const PACKAGES: usize = 396;

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let packages = tree.text("Cargo.lock").lines().filter(|line| line.starts_with("source = ")).count();
    if packages <= PACKAGES {
        return Vec::new();
    }
    vec![format!(
        "Cargo.lock: {packages} packages of others, and at most {PACKAGES} are allowed (xtask, tidy/lock.rs)"
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_packages_are_found() {
        let lock = |packages: usize| check(&Tree::of(&[("Cargo.lock", &"source = \"\"\n".repeat(packages))]));
        assert!(lock(PACKAGES).is_empty());
        assert_eq!(lock(PACKAGES + 1).len(), 1);
    }
}
