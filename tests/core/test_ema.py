"""The teacher's weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from guidedmix_core.ema import frozen_copy, in_mode, ramped, update


def network(value: float) -> nn.Module:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3))
    with torch.no_grad():
        for tensor in net.state_dict().values():
            tensor.fill_(value)
    return net


def test_one_update_is_the_weighted_mean() -> None:
    teacher = frozen_copy(network(1.0))
    update(teacher, network(3.0), 0.75)
    assert all(torch.equal(p, torch.full_like(p, 1.5)) for p in teacher.parameters())


def test_params_leave_the_buffers_alone() -> None:
    teacher = frozen_copy(network(1.0))
    update(teacher, network(3.0), 0.75, "params")
    assert all(buffer.eq(1).all() for buffer in teacher.buffers())


def test_state_averages_statistics_and_copies_counters() -> None:
    teacher = frozen_copy(network(1.0))
    update(teacher, network(3.0), 0.75, "state")
    buffers = dict(teacher.named_buffers())
    assert_close(buffers["1.running_var"], torch.full((3,), 1.5))
    assert buffers["1.num_batches_tracked"] == 3


def test_the_first_ramped_update_is_an_exact_copy() -> None:
    teacher, student = frozen_copy(network(1.0)), network(0.3)
    update(teacher, student, ramped(0.99, 0))
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))


def test_the_ramp_is_the_plain_average_until_the_decay() -> None:
    teacher = frozen_copy(network(0.0))
    for step, value in enumerate((1.0, 2.0, 6.0)):
        update(teacher, network(value), ramped(0.99, step))
    assert_close(next(teacher.parameters()), torch.full((3, 2, 1, 1), 3.0))
    assert ramped(0.99, 10_000) == 0.99


def test_no_parameter_of_a_copy_is_trained() -> None:
    student = network(1.0)
    assert not any(p.requires_grad for p in frozen_copy(student).parameters())
    assert all(p.requires_grad for p in student.parameters())


def test_a_larger_student_updates_the_part_the_teacher_has() -> None:
    teacher = frozen_copy(nn.ModuleDict({"student": network(1.0)}))
    update(teacher, nn.ModuleDict({"student": network(3.0), "queue": network(9.0)}), 0.5)
    assert all(p.eq(2).all() for p in teacher.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_each_submodule_has_its_own_mode_back(training: bool) -> None:
    net = network(1.0).train()
    net[1].eval()
    with in_mode(net, training=training):
        assert all(part.training == training for part in net.modules())
    assert [part.training for part in net] == [True, False]


def test_the_mode_comes_back_after_an_error() -> None:
    net = network(1.0).train()
    with pytest.raises(RuntimeError), in_mode(net, training=False):
        raise RuntimeError
    assert net.training
