//! Stands in for the server when the tests of this crate fetch images: becomes the process that fetches, and nothing else.

fn main() {
    hearth_image_pull::run_if_requested();
    eprintln!("this program is only of use to fetch an image");
    std::process::exit(2);
}
