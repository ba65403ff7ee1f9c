"""How much is attacked: what the tests go by, and what `README.md` beside this file shows."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Amount:
    """Cases of one kind of attack."""

    quick: int  # in `make test`
    long: int = 0  # that `make test-all` adds
    times: int = 1  # so often: with other seeds, or in another place


AMOUNTS = {
    "configuration": Amount(60, 500, 4),
    "passages": Amount(200, 1500, 3),
    "puzzles": Amount(60, 400, 3),
    "problems": Amount(40, 300, 3),
    "programs": Amount(40, 300, 3),
    "documents": Amount(40, 700, 2),
    "model files": Amount(20, 1000, 1),
    "model text": Amount(300, 5000, 3),
    "formulas": Amount(5000),
    "judge": Amount(100, 1500, 4),
    "damaged run": Amount(12, 100, 2),
    "forged run": Amount(25, 200, 2),
    "events": Amount(20, 300, 2),
    "S3 faults": Amount(20, 2000, 2),  # at least; on moto's server, and on Ceph's where it is installed
    "kills": Amount(0, 100, 2),  # at least; before and after every operation of a run on a disk
    "races": Amount(8, 100, 2),  # for a run's epoch; on a disk and on S3
    "histories": Amount(12, 150),
}
