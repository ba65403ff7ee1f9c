"""The waves that the pool hands out, in virtual time: how full, of what, and how soon."""

from fleet_simulation import VERSION, Simulation, Table, attempt, killer, many, section

from seal_ray.fleet.wave_messages import OutOfMemory


def test_a_wave_that_is_not_full_waits_only_so_long() -> None:
    simulation = Simulation()
    table = Table(simulation, section(wave_wait=3.0))
    table.pool.submit([attempt(0, 0)])
    while simulation.now < 2.5:
        table.pool.poll(0.1)
    assert not simulation.tried
    while simulation.now < 4:
        table.pool.poll(0.1)
    assert len(simulation.tried) == 1


def test_a_full_wave_does_not_wait() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section(wave_wait=1000.0))
    table.pool.submit([attempt(0, s) for s in range(4)])
    while simulation.now < 2:
        table.pool.poll(0.1)
    assert [len(ids) for _, _, ids in simulation.tried] == [4]


def test_waves_hold_candidates_of_like_step_counts() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section(window=8), wave=4)
    work = [attempt(t, s, texts=[3, 30][s % 2]) for t in range(4) for s in range(4)]
    steps = {a.candidate.id: a.steps for a in work}
    table.run(work)
    for _, _, ids in simulation.tried:
        assert len({steps[i] for i in ids}) == 1


def test_waves_come_from_a_window_of_tasks() -> None:
    simulation = Simulation(nodes={"a": 1})
    table = Table(simulation, section(window=2), wave=3)
    table.run([attempt(t, s, texts=1 + (t * 5 + s) % 7) for t in range(10) for s in range(6)])
    last: dict[str, int] = {}
    first: dict[str, int] = {}
    for number, (_, _, ids) in enumerate(simulation.tried):
        for identity in ids:
            first.setdefault(identity[:4], number)
            last[identity[:4]] = number
    tasks = sorted(first)
    # a task begins only when all but one of those before it are done
    for i, task in enumerate(tasks[2:], 2):
        assert first[task] >= sorted(last[t] for t in tasks[:i])[i - 2]


def test_room_shrinks_as_candidates_wait_and_grows_with_the_workers() -> None:
    simulation = Simulation(nodes={"a": 4})
    table = Table(simulation, section(), wave=4)
    assert table.pool.room() == 2 * 4, "the least is there at once"
    table.pool.expect(1000)
    while simulation.now < 3:
        table.pool.poll(0.5)
    before = table.pool.room()
    assert before == 2 * 4 * 4
    table.pool.submit(many(tasks=2))
    assert table.pool.room() == before - 10
    table.pool.submit(many(tasks=50)[10:])
    assert table.pool.room() == 0


def test_the_version_of_the_lease_is_the_pools() -> None:
    simulation = Simulation()
    leases: list[str] = []
    simulation.behave = lambda w, lease, now: leases.append(lease.version)
    Table(simulation, section()).run(many(tasks=1))
    assert set(leases) == {VERSION.digest}


def test_waves_stay_large_after_one_candidate_ran_out_of_memory() -> None:
    simulation = Simulation(nodes={"a": 1}, behave=killer("t000-s0-r0", OutOfMemory("no more")))
    table = Table(simulation, section(), wave=8)
    table.run(many(tasks=2))
    simulation.tried.clear()
    table.run([attempt(t, s, repeat=1) for t in range(4) for s in range(4)])
    assert max(len(ids) for _, _, ids in simulation.tried) == 8


def test_towards_the_end_waves_shrink_so_that_all_workers_have_work() -> None:
    simulation = Simulation(nodes={"a": 4})
    table = Table(simulation, section(), wave=8)
    table.pool.expect(32)
    while len(table.pool._group.idle()) < 4:
        table.pool.poll(0.1)
    table.run([attempt(0, s) for s in range(8)])
    assert {worker for _, worker, _ in simulation.tried[:4]} == set(simulation.players)
    assert max(len(ids) for _, _, ids in simulation.tried) == 2
