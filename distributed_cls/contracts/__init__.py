"""What crosses a process border or lies on a disk: one file each, with its dataclass, writing, reading and checks."""
