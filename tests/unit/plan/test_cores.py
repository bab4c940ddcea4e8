from __future__ import annotations

from pathlib import Path

import pytest

from inferload.errors import PlanError
from inferload.plan.cores import Cpu, places, usable_cpus


def machine(nodes: int = 1, cores: int = 4, threads: int = 1) -> list[Cpu]:
    """Numbered as Linux does: the second hardware threads after all first ones."""
    each = nodes * cores
    return [
        Cpu(node=core // cores, core=(core // cores, core % cores), number=thread * each + core)
        for thread in range(threads)
        for core in range(each)
    ]


def test_without_pinning_nothing_is_held_to_anything():
    (place,) = places("none", [], 1, 4)
    assert (place.cpus, place.node, place.threads_per_call) == ((), None, None)


@pytest.mark.parametrize(
    ("processes", "callers", "expected"),
    [
        (1, 1, [((0, 1, 2, 3),)]),
        (1, 4, [((0,), (1,), (2,), (3,))]),
        (2, 1, [((0, 1),), ((2, 3),)]),
        (2, 2, [((0,), (1,)), ((2,), (3,))]),
        (4, 1, [((0,),), ((1,),), ((2,),), ((3,),)]),
        # equal shares for comparable figures: one core is left over
        (3, 1, [((0,),), ((1,),), ((2,),)]),
        # more callers than cores: those of one process share its cores
        (2, 3, [((0, 1),) * 3, ((2, 3),) * 3]),
    ],
)
def test_each_process_and_each_caller_has_cores_of_its_own(processes, callers, expected):
    found = places("cores", machine(), processes, callers)
    assert [place.cpus for place in found] == expected
    assert {place.node for place in found} == {None}


def test_intra_op_threads_are_as_many_as_a_caller_has_cores():
    assert places("cores", machine(), 2, 1)[0].threads_per_call == 2
    assert places("cores", machine(threads=2), 2, 2)[0].threads_per_call == 1
    assert places("cores", machine(), 2, 3)[0].threads_per_call == 1


def test_both_hardware_threads_of_a_core_go_to_the_same_caller():
    found = places("cores", machine(threads=2), 2, 2)
    assert [place.cpus for place in found] == [((0, 4), (1, 5)), ((2, 6), (3, 7))]


def test_memory_is_bound_to_the_node_of_the_cores_where_there_are_several():
    found = places("cores", machine(nodes=2, cores=2), 2, 1)
    assert [(place.cpus, place.node) for place in found] == [(((0, 1),), 0), (((2, 3),), 1)]
    # a process with cores of both nodes has memory of both
    assert places("cores", machine(nodes=2, cores=2), 1, 1)[0].node is None


def test_processes_take_nodes_in_turn():
    found = places("numa", machine(nodes=2, cores=2), 3, 2)
    assert [place.node for place in found] == [0, 1, 0]
    assert [place.cpus for place in found] == [((0, 1),) * 2, ((2, 3),) * 2, ((0, 1),) * 2]
    assert places("numa", machine(), 1, 1)[0].node is None


def test_fewer_cores_than_processes_are_refused():
    with pytest.raises(PlanError, match="5 processes cannot have cores of their own, there are 4"):
        places("cores", machine(), 5, 1)


def test_the_topology_is_read_from_the_system(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    for number, (package, core, node) in enumerate([(0, 0, 0), (1, 0, 1)]):
        folder = tmp_path / f"cpu{number}"
        (folder / "topology").mkdir(parents=True)
        (folder / "topology" / "physical_package_id").write_text(f"{package}\n")
        (folder / "topology" / "core_id").write_text(f"{core}\n")
        (folder / f"node{node}").mkdir()
    assert usable_cpus(tmp_path) == [
        Cpu(node=0, core=(0, 0), number=0),
        Cpu(node=1, core=(1, 0), number=1),
        Cpu(node=0, core=(0, 2), number=2),  # of which nothing is told
    ]
