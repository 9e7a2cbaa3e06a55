"""data=split_folder: train, val and test outside (train/cat/…) or inside (cat/train/…) the class folders."""

from distributed_cls.config import DataConfig
from distributed_cls.dataset.listing import SPLIT_NAMES, Listing, Rows, relabelled, split_number
from distributed_cls.dataset.sources import class_folders
from distributed_cls.dataset.sources.source import Source, register
from distributed_cls.errors import UserError
from distributed_cls.text import class_name, printable

LAYOUT = "a folder with train, val, test inside or outside its class folders"


def list_split_folder(config: DataConfig, root: str) -> Listing:
    """Which of the two folders above an image is its split is decided by all of them together: a class may be called
    ``train``.
    """
    rows = Rows()
    loose: list[str] = []
    pairs: set[tuple[str, str]] = set()
    for entry in class_folders.image_files(root):
        if len(entry.parts) < 3:
            loose.append("/".join(entry.parts))
            continue
        pairs.add((entry.parts[0], entry.parts[1]))
        rows.add("/".join(entry.parts), f"{entry.parts[0]}/{entry.parts[1]}", entry.size, entry.stamp)
    splits_outside = _splits_are_outside(config, pairs)
    ordered = {f"{first}/{second}": (first, second) if splits_outside else (second, first) for first, second in pairs}
    meaning = {name: (class_name(label), split_number(split, root)) for name, (split, label) in ordered.items()}
    class_folders.warn_of_foreign_names({label for _, label in ordered.values()})
    class_folders.log_unread(loose, "outside a class folder of a split")
    return Listing(root, relabelled(rows.table(), meaning))


def _splits_are_outside(config: DataConfig, pairs: set[tuple[str, str]]) -> bool:
    """Whether the upper folder is the split. Raises UserError for a folder that fits neither layout."""
    odd_outside = [pair for pair in pairs if pair[0].lower() not in SPLIT_NAMES]
    odd_inside = [pair for pair in pairs if pair[1].lower() not in SPLIT_NAMES]
    if odd_outside and odd_inside:
        odd = min(odd_outside if len(odd_outside) < len(odd_inside) else odd_inside)
        raise UserError(
            f"Expected {LAYOUT}. Received: {printable('/'.join(odd))} in data.path={config.path}. "
            "Move it away, or set data=folder for images without a split."
        )
    return not odd_outside


register(Source("split_folder", list_split_folder, LAYOUT, class_folders.REMEDY))
