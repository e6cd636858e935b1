//! What is to be true of the repository and no compiler checks. Each check answers with a sentence
//! for everything that it finds.

mod code_map;
mod cycles;
mod dependencies;
mod lock;
mod python;
mod readme_tree;
mod references;
mod sizes;
mod unreached;

use crate::tree::Tree;
use crate::workspace::Package;

/// All findings, `path: what is wrong`.
pub(crate) fn check(tree: &Tree, packages: &[Package]) -> Vec<String> {
    [
        code_map::check(tree, packages),
        readme_tree::check(tree),
        references::check(tree),
        unreached::check(tree, packages),
        python::check(tree),
        dependencies::check(tree, packages),
        lock::check(tree),
        sizes::check(tree),
        cycles::check(tree, packages),
    ]
    .concat()
}
