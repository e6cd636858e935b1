"""Code artifacts made by tests."""
import io
import stat
import zipfile


def zipped(files: dict[str, bytes | str], links: dict[str, str] | None = None, executable: set[str] = frozenset()) -> bytes:
    """A zip of files that everybody may read, and some execute, and of symbolic links."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(entry(name, stat.S_IFREG | (0o755 if name in executable else 0o644)), data)
        for name, target in (links or {}).items():
            archive.writestr(entry(name, stat.S_IFLNK | 0o777), target)
    return buffer.getvalue()


def entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system, info.external_attr = 3, mode << 16
    return info
