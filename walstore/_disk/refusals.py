"""The refusals that the real file system and the simulated one share, so that both say the same."""

import errno
import os


def check_name(name: str) -> str:
    """`name`, if it can be an entry of one flat directory; OSError (EINVAL) if it would lead elsewhere."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise OSError(errno.EINVAL, "not the name of a file in this directory", name)
    return name


def not_regular(name: str) -> OSError:
    """What to raise for a symlink, FIFO, device, socket or directory where a file of the store should be."""
    return OSError(errno.EINVAL, "not a regular file, so it is not opened", name)


def closed() -> OSError:
    """What to raise for any use of a handle that was closed, or for writing through one that only reads."""
    return OSError(errno.EBADF, os.strerror(errno.EBADF))


def short_write(written: int, wanted: int) -> OSError:
    """What to raise where the kernel took fewer bytes than it was given, and gave no reason."""
    return OSError(errno.EIO, f"short write: {written} of {wanted} bytes")
