"""What a report says of the data set and of the settings, as plain words and rows for the template."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from distributed_cls.config import section
from distributed_cls.contracts.codec import Json
from distributed_cls.contracts.manifest import PAGE_FILE, SPLITS
from distributed_cls.contracts.summary import DatasetEntry
from distributed_cls.evaluation.labels import plural, readable

# Settings of jobs that did not run would be most of the page.
_JOB_SECTIONS = {
    "predict": ("predict",),
    "stream": ("predict", "stream"),
    "serve": ("serve",),
    "suspects": ("suspects",),
}


def dataset_facts(dataset: DatasetEntry | None, names: Sequence[str]) -> dict[str, object]:
    """Images per split and class, and what was rejected."""
    if dataset is None:
        nothing: dict[str, object] = dict.fromkeys(("splits", "totals", "rows", "reasons", "rejects"), ())
        return {**nothing, "total": 0, "page": None, "rejected": None}
    splits = [split for split in SPLITS if split in dataset.counts]
    totals = [sum(dataset.counts[split].values()) for split in splits]
    rows = [
        (shown, [dataset.counts[split].get(name, 0) for split in splits])
        for shown, name in zip(names, dataset.classes, strict=False)
    ]
    return {
        "splits": splits,
        "totals": totals,
        "total": sum(totals),
        "rows": rows,
        "page": _dataset_page(dataset),
        "rejected": dataset.rejected,
        "reasons": [
            f"{plural(count, 'image')}: {readable(reason)}" for reason, count in dataset.rejected_by_reason.items()
        ],
        "rejects": [
            ": ".join(readable(reject[key]) for key in ("path", "reason", "detail") if reject.get(key))
            for reject in dataset.rejects
        ],
    }


def _dataset_page(dataset: DatasetEntry) -> str | None:
    """The link to the page that shows the prepared images, where this machine has it."""
    page = Path(dataset.path, PAGE_FILE)
    return page.as_uri() if page.is_absolute() and page.is_file() else None


def settings(config: Mapping[str, Json], job: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """The configuration by section, without those of other jobs; settings outside of any section come last."""
    unused = {name for names in _JOB_SECTIONS.values() for name in names} - set(_JOB_SECTIONS.get(job, ()))
    sections = [
        (readable(section), [(readable(key), shown(value)) for key, value in values.items()])
        for section, values in config.items()
        if isinstance(values, dict) and section not in unused
    ]
    alone = [(readable(key), shown(value)) for key, value in config.items() if not isinstance(value, dict)]
    return [*sections, ("run", alone)] if alone else sections


def shown(value: Json) -> str:
    """A value as YAML would spell it."""
    return readable(section.shown(value))
