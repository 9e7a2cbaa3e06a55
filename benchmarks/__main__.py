"""``python -m benchmarks [name …]``: run the named benchmarks, all of them by default."""

import importlib
import sys

NAMES = ("startup", "training", "features", "clothes", "transfer", "leaks", "prepare", "inference", "peers")


def main() -> int:
    wanted = sys.argv[1:] or NAMES
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        print(f"error: Expected benchmarks out of {', '.join(NAMES)}. Received: {', '.join(unknown)}.", file=sys.stderr)
        return 2
    for name in wanted:
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
