"""Files that tell whether two machines mean the same folder by one path."""

import contextlib
import uuid
from collections.abc import Iterator

from distributed_cls.storage.files import make_folder, remove_folder, write_bytes
from distributed_cls.storage.paths import join


@contextlib.contextmanager
def marked(*folders: str) -> Iterator[str]:
    """Leave a file of one name in each of ``folders`` until the block ends; the name, relative to the folder.

    Nobody else has ever made a file of this name: whoever sees it in a folder sees this very folder, and not one that
    happens to have the same path. It lies in a folder of its own, for answers beside it.
    """
    own = f".marker-{uuid.uuid4().hex}"
    try:
        for folder in folders:
            make_folder(join(folder, own))
            write_bytes(join(folder, own, "driver"), b"")
        yield f"{own}/driver"
    finally:
        for folder in folders:
            remove_folder(join(folder, own))
