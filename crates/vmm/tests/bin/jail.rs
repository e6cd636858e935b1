//! Stands in for the server when the tests of this crate start VMs: becomes the jail of a
//! VMM, and nothing else.

fn main() {
    hearth_vmm::jail::run_if_requested();
    eprintln!("this program is only of use as a jail");
    std::process::exit(2);
}
