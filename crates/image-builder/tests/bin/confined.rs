//! Stands in for the server when the tests of this crate start readers and pulls.

fn main() {
    hearth_confined::run_if_requested(&hearth_image_builder::CONFINED_WORKS);
    hearth_image_pull::run_if_requested();
    eprintln!("this program is only of use as a confined process");
    std::process::exit(2);
}
