//! What people type for an image or a microVM, and which one they mean.

use anyhow::{anyhow, bail};

use crate::items::{Image, MicrovmItem};

/// Before the UUID in the id of a microVM.
const PREFIX: &str = "microvm-";
/// Characters of a UUID.
const UUID_LENGTH: usize = 36;

/// The image of this name, else the only one whose name begins so.
pub(crate) fn image<'a>(images: &'a [Image], wanted: &str) -> anyhow::Result<&'a Image> {
    if let Some(image) = images.iter().find(|image| image.name == wanted) {
        return Ok(image);
    }
    let candidates: Vec<_> = images.iter().filter(|image| image.name.starts_with(wanted)).collect();
    match candidates.as_slice() {
        [image] => Ok(image),
        [] => Err(anyhow!("there is no image named {wanted}; `hearth images` lists them")),
        [first, second, ..] => bail!("{wanted} may be {}, {} or another image", first.name, second.name),
    }
}

/// Whether `text` is an id that needs no look at the list.
pub(crate) fn is_whole_microvm_id(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|uuid| uuid.len() == UUID_LENGTH)
}

/// The only microVM whose id begins so; those that are not TERMINATED come first.
pub(crate) fn microvm<'a>(microvms: &'a [MicrovmItem], wanted: &str) -> anyhow::Result<&'a MicrovmItem> {
    let matches = |item: &&MicrovmItem| {
        let id = item.microvm_id.as_str();
        !wanted.is_empty()
            && (id.starts_with(wanted)
                || id.strip_prefix(PREFIX).is_some_and(|uuid| uuid.starts_with(wanted)))
    };
    let all: Vec<_> = microvms.iter().filter(matches).collect();
    let alive: Vec<_> = all.iter().copied().filter(|item| item.state != "TERMINATED").collect();
    match (alive.as_slice(), all.as_slice()) {
        ([microvm], _) | ([], [microvm]) => Ok(microvm),
        ([], []) => Err(anyhow!("there is no microVM {wanted}; `hearth ps -a` lists them")),
        ([first, second, ..], _) | ([], [first, second, ..]) => {
            bail!("{wanted} may be {}, {} or another microVM", first.microvm_id, second.microvm_id)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(names: &[&str]) -> Vec<Image> {
        let image = |name: &&str| Image {
            arn: format!("arn:aws:lambda:us-east-1:000000000000:microvm-image:{name}"),
            name: (*name).to_owned(),
            state: "CREATED".to_owned(),
            latest_active_image_version: None,
            latest_failed_image_version: None,
            created_at: 0.0,
        };
        names.iter().map(image).collect()
    }

    fn microvms(ids: &[(&str, &str)]) -> Vec<MicrovmItem> {
        let item = |(id, state): &(&str, &str)| MicrovmItem {
            microvm_id: (*id).to_owned(),
            state: (*state).to_owned(),
            image_arn: String::new(),
            image_version: "1.0".to_owned(),
            started_at: 0.0,
        };
        ids.iter().map(item).collect()
    }

    #[test]
    fn a_whole_name_wins_over_the_names_it_begins() {
        let images = images(&["app", "app-2", "web"]);
        assert_eq!(image(&images, "app").unwrap().name, "app");
        assert_eq!(image(&images, "w").unwrap().name, "web");
        let message = |wanted| image(&images, wanted).unwrap_err().to_string();
        assert_eq!(message("ap"), "ap may be app, app-2 or another image");
        assert_eq!(message("x"), "there is no image named x; `hearth images` lists them");
    }

    #[test]
    fn ids_may_be_cut_short_and_dead_microvms_do_not_stand_in_the_way() {
        let list = microvms(&[
            ("microvm-aa1", "RUNNING"),
            ("microvm-aa2", "TERMINATED"),
            ("microvm-b", "TERMINATED"),
        ]);
        assert_eq!(microvm(&list, "aa").unwrap().microvm_id, "microvm-aa1");
        assert_eq!(microvm(&list, "microvm-aa2").unwrap().microvm_id, "microvm-aa2");
        assert_eq!(microvm(&list, "b").unwrap().microvm_id, "microvm-b");
        assert!(microvm(&list, "").is_err());
        assert!(microvm(&list, "c").unwrap_err().to_string().starts_with("there is no microVM c"));
        let twins = microvms(&[("microvm-aa1", "RUNNING"), ("microvm-aa2", "SUSPENDED")]);
        let error = microvm(&twins, "aa").unwrap_err().to_string();
        assert_eq!(error, "aa may be microvm-aa1, microvm-aa2 or another microVM");
    }

    #[test]
    fn whole_ids_are_recognised() {
        assert!(is_whole_microvm_id("microvm-123e4567-e89b-12d3-a456-426614174000"));
        assert!(!is_whole_microvm_id("microvm-123e4567"));
        assert!(!is_whole_microvm_id("123e4567-e89b-12d3-a456-426614174000"));
    }
}
