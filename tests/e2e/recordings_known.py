"""Where the answers are not those of the live service, by `case/step` (status or error class, or it
cannot be sent) or `case/step/member` (`until` for the states on the way), and why.

The list may only shrink: a difference that is not here fails the test, and so does one
that no longer occurs.
"""
_BUILDS = "One build per version: there is one host, and its CPU generation is called 1."
_NEWER = "The model has this member; the recording is older than it."
_VERSIONS = "Connectors have versions in the model; the recording is older than those."

KNOWN = {
    "images-lifecycle/list-builds/items": _BUILDS,
    "images-lifecycle/list-builds/items.0.chipsetGeneration": _BUILDS,
    "images-lifecycle/get-build/chipsetGeneration": _BUILDS,
    "managed-images/list-versions/items.0.supportedCpuConfigurations": _NEWER,
    "managed-images/list-versions/items.1.supportedCpuConfigurations": _NEWER,
    "connectors/create/Version": _VERSIONS,
    "connectors/create/VersionArn": _VERSIONS,
    "connectors/get-until-active/Version": _VERSIONS,
    "connectors/get-until-active/LatestVersion": _VERSIONS,
    "connectors/get-until-active/LatestVersionArn": _VERSIONS,
    "connectors/list/NetworkConnectors.0.LatestVersion": _VERSIONS,
    "connectors/list/NetworkConnectors.0.LatestVersionArn": _VERSIONS,
    "connectors/update/Version": _VERSIONS,
    "connectors/update/VersionArn": _VERSIONS,
    "connectors/delete/Version": _VERSIONS,
    "connectors/delete/VersionArn": _VERSIONS,
    "images-lifecycle/list-versions/items.0.kmsKeyIdentifier": _NEWER,
    **{f"{step}/kmsKeyIdentifier": _NEWER for step in (
        *(f"{case}/{step}" for case in ("vms-lifecycle", "tokens")
          for step in ("create-image", "version-until-built", "run", "get-until-running", "get-until-terminated")),
        *(f"images-lifecycle/{step}" for step in (
            "create", "version-until-built", "update-image", "update-version-status")),
        "tags-api/create-image", "tags-api/version-until-built",
    )},
}
