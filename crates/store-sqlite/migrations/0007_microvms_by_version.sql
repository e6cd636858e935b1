-- For lists of one version; those of all versions of an image have microvms_by_image.
CREATE INDEX microvms_by_version ON microvms (image_arn, image_version, started_at DESC, id);
