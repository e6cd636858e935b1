//! Finds disks by the serial numbers that the host gave them.

use std::fs;

use crate::error::Error;

/// The device file of the disk whose virtio-blk serial number is `serial`.
pub(crate) fn device_with_serial(serial: &str) -> Result<String, Error> {
    let entries =
        fs::read_dir("/sys/block").map_err(|source| Error::Read { path: "/sys/block".into(), source })?;
    entries
        .flatten()
        .find(|entry| {
            fs::read_to_string(entry.path().join("serial")).is_ok_and(|text| text.trim_end() == serial)
        })
        .map(|entry| format!("/dev/{}", entry.file_name().to_string_lossy()))
        .ok_or_else(|| Error::NoDisk { serial: serial.into() })
}
