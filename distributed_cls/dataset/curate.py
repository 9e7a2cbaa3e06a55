"""From what was decoded to what is kept: conflicts and duplicates out, every kept image in one split. On the driver.

Works on whole columns; a million images take seconds. Nothing here compares all pairs.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from distributed_cls.config import DataConfig
from distributed_cls.contracts import index
from distributed_cls.contracts.index import KEY_BYTES
from distributed_cls.contracts.manifest import SPLITS
from distributed_cls.contracts.rejects import CONFLICT, DUPLICATE, LEAK
from distributed_cls.dataset import split
from distributed_cls.errors import UserError
from distributed_cls.text import printable


class TooManyRejects(UserError):
    """More rejects than the limit. The decoded images stay for the next run, which may allow more."""


@dataclass(frozen=True)
class Curated:
    """The decided index: ``table`` with reason and detail completed, and ``split`` of every kept image (else -1)."""

    table: pa.Table
    classes: list[str]

    def kept(self) -> pa.Table:
        """The images of the dataset."""
        return index.kept(self.table)

    def rejected(self) -> pa.Table:
        """The images that are left out for a fault; being a duplicate is none."""
        reason = self.table["reason"]
        return self.table.filter(pc.and_(pc.is_valid(reason), pc.not_equal(reason, DUPLICATE)))

    def rejected_by_reason(self) -> dict[str, int]:
        """How many images each reason leaves out, by the reason's name."""
        counted = self.rejected()["reason"].value_counts().to_pylist()
        return {row["values"]: row["counts"] for row in sorted(counted, key=lambda row: str(row["values"]))}

    def named_rejects(self, limit: int) -> list[dict[str, str]]:
        """Path, reason and detail of the first ``limit`` rejects."""
        first = self.rejected().slice(0, limit)
        facts = zip(places(first), first["reason"].to_pylist(), first["detail"].to_pylist(), strict=True)
        return [{"path": path, "reason": reason, "detail": detail or ""} for path, reason, detail in facts]

    def duplicates(self) -> int:
        """How many images are left out because their content is there already."""
        return int(pc.sum(pc.equal(self.table["reason"], DUPLICATE)).as_py() or 0)


def keys_of(column: pa.ChunkedArray) -> np.ndarray:
    """A column of 16-byte keys without nulls as uint8 [n, 16]."""
    flat = b"".join(column.to_pylist())
    return np.frombuffer(flat, np.uint8).reshape(len(column), KEY_BYTES)


def _content_numbers(keys: np.ndarray) -> np.ndarray:
    """The same number for the same key: int64 [n]."""
    return np.unique(np.ascontiguousarray(keys).view(f"V{keys.shape[1]}").ravel(), return_inverse=True)[1].ravel()


def _preference(splits: np.ndarray) -> np.ndarray:
    """Which of several copies stays, smallest first: a given test split stays whole, then val, then train."""
    return np.where(splits < 0, 0, len(SPLITS) - splits)


def _drop(table: pa.Table, rows: np.ndarray, reason: str, details: list[str]) -> pa.Table:
    reasons = table["reason"].to_numpy(zero_copy_only=False).astype(object)
    texts = table["detail"].to_numpy(zero_copy_only=False).astype(object)
    reasons[rows] = reason
    texts[rows] = details
    for name, values in (("reason", reasons), ("detail", texts)):
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    return table


def places(table: pa.Table) -> list[str]:
    """Where each image lies, for people: its path, and its row where a file holds many."""
    rows = zip(table["path"].to_pylist(), table["row"].to_pylist(), strict=True)
    return [f"{path} row {row}" if row >= 0 else path for path, row in rows]


def drop_conflicts(table: pa.Table) -> pa.Table:
    """Reject every image whose content also occurs under another label; the detail names labels and files."""
    kept = kept_indices(table)
    content = _content_numbers(keys_of(table["key"].take(kept)))
    labels = table["label"].take(kept).dictionary_encode().combine_chunks()
    codes = labels.indices.to_numpy()
    order = np.lexsort((codes, content))
    same = content[order][1:] == content[order][:-1]
    clash = np.unique(content[order][1:][same & (codes[order][1:] != codes[order][:-1])])
    if not len(clash):
        return table
    faulty = np.flatnonzero(np.isin(content, clash))
    paths = places(table.select(["path", "row"]).take(kept[faulty]))
    names = labels.take(faulty).to_pylist()
    members: dict[int, list[int]] = {}
    for number, group in enumerate(content[faulty].tolist()):
        members.setdefault(group, []).append(number)
    details = []
    for group in content[faulty].tolist():
        classes = sorted({names[n] for n in members[group]})
        files = ", ".join(paths[n] for n in members[group][:3])
        details.append(f"the same picture under {' and '.join(classes)}: {files}")
    return _drop(table, kept[faulty], CONFLICT, details)


def drop_duplicates(table: pa.Table) -> pa.Table:
    """Keep one of each content: of a given test split first, then val, then train; then the first by path."""
    kept = kept_indices(table)
    content = _content_numbers(keys_of(table["key"].take(kept)))
    order = np.lexsort((kept, _preference(table["split"].to_numpy()[kept]), content))
    again = np.concatenate([[False], content[order][1:] == content[order][:-1]])
    if not again.any():
        return table
    firsts = np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))
    originals = places(table.select(["path", "row"]).take(kept[order[firsts[again]]]))
    return _drop(table, kept[order[again]], DUPLICATE, [f"the same picture as {path}" for path in originals])


def kept_indices(table: pa.Table) -> np.ndarray:
    """The rows of the images without a reason to leave them out, int64 [n]."""
    return np.flatnonzero(pc.is_null(table["reason"]).to_numpy())


def drop_leaks(
    table: pa.Table, groups: np.ndarray, earlier: pa.Table | None, reason: str = LEAK
) -> tuple[pa.Table, np.ndarray]:
    """Leave out images whose groups belong to different splits; the table, and the groups that remain.

    groups: of each kept row: of near duplicates (reason LEAK), or these joined with named ones (GROUP). With splits
    given by the source, what is in test stays, then what is in val. With an earlier dataset all that it holds stays,
    and a new image that belongs with images of several splits goes. Either way, no group is in two splits.
    """
    kept = kept_indices(table)
    given = table["split"].to_numpy()[kept]
    known = _earlier_splits(table["key"].take(kept), earlier)
    fixed_split = given if known is None or (given >= 0).any() else known
    count = int(groups.max(initial=-1)) + 1
    present = np.zeros((count, len(SPLITS)), bool)
    present[groups[fixed_split >= 0], fixed_split[fixed_split >= 0]] = True
    spans_splits = present.sum(axis=1)[groups] > 1
    preferred_split = (len(SPLITS) - 1 - present[:, ::-1].argmax(axis=1))[groups]
    to_drop = spans_splits & ((given >= 0) & (given != preferred_split) if fixed_split is given else fixed_split < 0)
    if not to_drop.any():
        return table, groups
    paths = places(table.select(["path", "row"]).take(kept))
    relative = {int(groups[n]): paths[n] for n in np.flatnonzero(spans_splits & ~to_drop & (fixed_split >= 0))}
    words = "nearly the same picture as" if reason == LEAK else "belongs together with"
    details = [f"{words} {relative[int(groups[n])]}" for n in np.flatnonzero(to_drop)]
    return _drop(table, kept[to_drop], reason, details), groups[~to_drop]


def check_rejects(table: pa.Table, limit: float) -> None:
    """Raise UserError with the most frequent reasons when more than ``limit`` of the images are rejected."""
    reasons = table["reason"].drop_null()
    reasons = reasons.filter(pc.not_equal(reasons, DUPLICATE))
    if len(reasons) <= limit * table.num_rows:
        return
    counts = sorted(((row["counts"], row["values"]) for row in reasons.value_counts().to_pylist()), reverse=True)
    found = ", ".join(f"{reason} {count}" for count, reason in counts[:3])
    example = table.filter(pc.equal(table["reason"], counts[0][1])).slice(0, 1)
    detail = example["detail"][0].as_py()
    named = printable(places(example)[0] + (f": {detail}" if detail else ""))
    raise TooManyRejects(
        f"Expected at most {limit:.1%} rejected images. "
        f"Received: {len(reasons)} of {table.num_rows} ({found}; for example {named}). "
        "Repair the images, or set data.max_reject_fraction higher."
    )


def assign_splits(
    table: pa.Table, classes: list[str], config: DataConfig, groups: np.ndarray | None, earlier: pa.Table | None
) -> pa.Table:
    """Set ``split`` of every kept image, and -1 of all others.

    groups: group of each kept image. earlier: key and split of a former preparation, which are kept.
    """
    kept = kept_indices(table)
    keys = keys_of(table["key"].take(kept))
    labels = pc.index_in(table["label"].take(kept), pa.array(classes)).to_numpy().astype(np.int64)
    given = table["split"].to_numpy()[kept]
    order = split.hash_order(keys, f"{config.seed}:{config.split_salt}")
    groups = np.arange(len(kept)) if groups is None else groups
    known = _earlier_splits(table["key"].take(kept), earlier)
    chosen, fractions = given_splits(given, config.split)
    free = np.flatnonzero(chosen < 0)
    chosen[free] = split.assign(
        labels[free], groups[free], order[free], fractions, None if known is None else known[free]
    )
    _check_every_class(table, labels, chosen, classes)
    splits = np.full(table.num_rows, -1, np.int8)
    splits[kept] = chosen
    return table.set_column(table.schema.get_field_index("split"), "split", pa.array(splits))


def given_splits(given: np.ndarray, fractions: list[float]) -> tuple[np.ndarray, list[float]]:
    """The splits of the source: those that are final, int8 [n] (-1 for open), and the fractions for the open ones.

    Where the source has no val (or no test) split, it is taken out of train.
    """
    if not (given >= 0).any():
        return given.copy(), fractions
    open_splits = [number == 0 or number not in given for number in range(len(SPLITS))]
    if sum(open_splits) == 1:
        return given.copy(), fractions
    total = sum(part for part, is_open in zip(fractions, open_splits, strict=True) if is_open)
    open_fractions = [part / total if is_open else 0.0 for part, is_open in zip(fractions, open_splits, strict=True)]
    return np.where(given == 0, -1, given).astype(np.int8), open_fractions


def _earlier_splits(keys: pa.ChunkedArray, earlier: pa.Table | None) -> np.ndarray | None:
    if earlier is None:
        return None
    known = dict(zip(earlier["key"].to_pylist(), earlier["split"].to_pylist(), strict=True))
    return np.array([known.get(key, -1) for key in keys.to_pylist()], np.int8)


def _check_every_class(table: pa.Table, labels: np.ndarray, splits: np.ndarray, classes: list[str]) -> None:
    counts = np.zeros((len(classes), len(SPLITS)), np.int64)
    np.add.at(counts, (labels, splits), 1)
    short = np.flatnonzero((counts == 0).any(axis=1))
    if not len(short):
        return
    name = classes[short[0]]
    empty = SPLITS[int((counts[short[0]] == 0).argmax())]
    others = f" (and {len(short) - 1} more classes like it)" if len(short) > 1 else ""
    reasons = table.filter(pc.equal(table["label"], name))["reason"].drop_null().value_counts().to_pylist()
    out = ", ".join(f"{row['counts']} {row['values']}" for row in sorted(reasons, key=lambda row: -row["counts"]))
    left_out = f"; left out: {out}" if out else ""
    raise UserError(
        f"Expected every class to have an image in each of {', '.join(SPLITS)}. Received: class {printable(name)} with "
        f"{int(counts[short[0]].sum())} usable images, none of them in {empty}{left_out}{others}. "
        f"Add images to {printable(name)}, remove the class, or change data.split."
    )
